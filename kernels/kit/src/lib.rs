//! What every kernel room needs: the Problem and Blueprint contracts, launch glue, and the test harness.
//!
//! A room describes its work as a [`Problem`] (plain data: shapes and parameters) and its compile-time choices as a
//! [`Blueprint`]. `launch.rs` of a room turns both into a launch with the helpers of [`glue`]; `tests.rs` holds the room to
//! its maths with [`testing`].

pub mod attention;
pub mod glue;
pub mod golden;
pub mod problem;
pub mod testing;
pub mod tuning;

pub use problem::{Blueprint, Limits, Problem};
