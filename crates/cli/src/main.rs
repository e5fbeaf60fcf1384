//! The binary `swinstyle`; all of it is in the library beside it, which the tests call too.

use std::process::ExitCode;

fn main() -> ExitCode {
    swinstyle_cli::main()
}
