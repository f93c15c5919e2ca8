//! gRPC over iroh, as one of the programs that `tests/benches/speed` compares: `serve iroh` and `ask iroh WORK ADDRESS`, with
//! the works of that bench.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod subject;
// Units are what the bench prints.
#[path = "../../benches/speed/work.rs"]
#[allow(dead_code)]
mod work;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", subject] => work::serve(subject.parse().unwrap(), None),
        ["ask", subject, work, address] => {
            work::ask(subject.parse().unwrap(), work.parse().unwrap(), address);
        }
        _ => eprintln!("serve iroh, or ask iroh WORK ADDRESS: see tests/benches/speed"),
    }
}
