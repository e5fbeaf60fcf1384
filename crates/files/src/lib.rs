//! Files, names and text at the border of the program: the one writer of files, names that are safe in a path, and text
//! that is safe in a terminal. Pipes and devices are read with bounds.

mod atomic;
mod identity;
mod names;
mod notes;
mod scratch;
mod stream;
mod target;
mod temporary;
mod text;

pub use atomic::{Durability, write_atomic};
pub use identity::{FileId, same_file};
pub use names::safe_name;
pub use notes::{note, take_notes};
pub use scratch::Scratch;
pub use stream::read_stream;
pub use target::is_there;
pub use temporary::sweep;
pub use text::{printable, shown};
