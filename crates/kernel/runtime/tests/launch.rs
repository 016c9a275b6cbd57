//! Containers that are really started: what they are and see.

mod stage;

use stage::Stage;

#[test]
fn hello() {
    let stage = Stage::new("echo hello; id -u; exit 7");
    let (stdio, pipes) = stage::pipes();
    let running = stage.launch_with(stdio).unwrap();
    for (step, at) in &running.trace {
        println!("{step:>12} {:>8} µs", (at - running.trace[0].1) / 1000);
    }
    println!("warnings: {:?}", running.warnings);
    let output = stage::gather(&running, pipes);
    assert_eq!(output.out, "hello\n0\n");
    assert_eq!(output.err, "");
    assert_eq!(output.code, 7);
}
