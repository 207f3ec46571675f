//! Measures how many records one core parses and encodes: `cargo run --release -p model --example throughput`.
//!
//! Prints the median of eleven rounds.

use std::{hint::black_box, time::Instant};

use model::Contract;

const RECORD: &[u8] = include_bytes!("../../../proto-schema/examples/plain.json");
const ROUNDS: usize = 11;
const RECORDS_PER_ROUND: u32 = 200_000;

fn main() -> Result<(), model::Invalid> {
    let contract = Contract::user();
    let user = contract.parse_strict(RECORD)?;
    let mut buffer = Vec::with_capacity(1024);
    println!("one record of {} bytes", RECORD.len());
    measure("parse_strict", || contract.parse_strict(black_box(RECORD)));
    measure("parse_lenient", || contract.parse_lenient(black_box(RECORD)));
    measure("parse_canonical", || contract.parse_canonical(black_box(RECORD)));
    measure("is_canonical", || user.is_canonical(black_box(RECORD)));
    measure("to_json", || black_box(&user).to_json());
    measure("write_json", || {
        buffer.clear();
        black_box(&user).write_json(black_box(&mut buffer));
    });
    measure("bind", || {
        buffer.clear();
        for slot in 0..contract.fields().len() {
            black_box(&user).bind(slot, false, black_box(&mut buffer));
        }
    });
    measure("partition", || black_box(user.key()).partition(6));
    Ok(())
}

fn measure<T>(name: &str, mut work: impl FnMut() -> T) {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..RECORDS_PER_ROUND {
                black_box(work());
            }
            f64::from(RECORDS_PER_ROUND) / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("{name:>15}: {:>10.0} records/s", rates[ROUNDS / 2]);
}
