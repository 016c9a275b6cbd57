//! What developers run: `cargo xtask help` lists it.
//!
//! Each command is a file; this one only reads the first word.

mod bench;
mod conformance;
mod demo;
mod guest;
mod packages;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo [--debug]   build dhow, start it, build and run an image, clean up; --debug skips the release build
  test [FILTER]    everything CI checks: packages, format, clippy, tidy, all tests, the guest, the demo;
                   with FILTER only the tests whose name contains it
  guest            dhow on Debian's kernel with cgroup v2, in a QEMU guest
  conformance      writes which test shows which rule of the OCI runtime specification
  tidy             the floors, crate docs, unsafe code, dependency table
  bench start      how long a start takes, beside docker and runc where they are installed
  bench oci        the OCI runtime's command line, beside runc and youki where they are installed
  soak             the tests that repeat (random kills, many containers) with their full counts
  help             this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["demo"] => demo::run(run::Profile::Release),
        ["demo", "--debug"] => demo::run(run::Profile::Debug),
        ["test"] => test::run(),
        ["test", filter] => test::filtered(filter),
        ["conformance"] => conformance::write(),
        ["tidy"] => tidy::run(),
        ["guest"] => guest::run(run::Profile::Debug),
        ["bench", "start"] => bench::start(),
        ["bench", "oci"] => bench::oci::run(),
        ["soak"] => test::soak(),
        ["help" | "--help" | "-h"] | [] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("unknown command: {}\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
