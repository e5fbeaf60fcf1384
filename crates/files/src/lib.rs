//! Files, names and text at the border of the program: the one writer of files, names that are safe in a path, and text
//! that is safe in a terminal.

mod atomic;
mod names;
mod notes;
mod scratch;
mod target;
mod temporary;
mod text;

pub use atomic::{Durability, write_atomic};
pub use names::safe_name;
pub use notes::{note, take_notes};
pub use scratch::Scratch;
pub use target::{is_there, same_file};
pub use temporary::sweep;
pub use text::{printable, shown};
