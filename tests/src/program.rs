//! The program under test: the same `main` as the binary `swinstyle`.

use std::process::ExitCode;

fn main() -> ExitCode {
    swinstyle_cli::main()
}
