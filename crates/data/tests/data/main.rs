//! The data crate from outside: what is drawn, what is read, what is loaded.

mod avatars;
mod datasets;
mod folder;
mod label_maps;
mod loader;
