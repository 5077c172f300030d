//! Layer 3: runs a command, and prints what it writes, line by line, as it comes.
//!
//! ```text
//! cargo run --example subprocess command [argument ...]
//! ```

use std::io;
use std::process::{Command, Stdio};

use aioxide::create_subprocess_exec;

async fn run(command: &mut Command) -> io::Result<()> {
    let mut process = create_subprocess_exec(command.stdout(Stdio::piped())).await?;
    if let Some(stdout) = &mut process.stdout {
        let (mut lines, mut number) = (stdout.lines(), 0);
        while let Some(line) = lines.next().await? {
            number += 1;
            println!("{number}: {}", String::from_utf8_lossy(&line).trim_end());
        }
    }
    println!("{}", process.wait().await);
    Ok(())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().unwrap_or_else(|| "ls".into());
    aioxide::run(async move { run(Command::new(program).args(arguments)).await })?
}
