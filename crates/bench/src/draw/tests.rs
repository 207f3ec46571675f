use super::*;
use crate::report::DrainLine;
use crate::report::spread::Spread;
use crate::report::{BreakdownLine, GrowthPoint, LatencyPoint, MemoryLine, SentLine};
use crate::usage::Cost;

fn line(name: &str, baseline: bool, speed: f64) -> DrainLine {
    let spread = |value: f64| Spread::of(&[value * 0.95, value, value * 1.08]).unwrap();
    DrainLine {
        name: name.to_owned(),
        baseline,
        records: 300_000,
        rows_per_second: spread(speed),
        cpu_per_million: spread(200_000.0 / speed),
        peak_mib: spread(1_500_000.0 / speed),
        first_row_seconds: None,
    }
}

/// A report with every kind of result; the figures are invented.
fn sample_report() -> Report {
    let mut report = Report::new("sample");
    report.machine.cpu = "A <Processor> & more".to_owned();
    report.drains = vec![
        line("driver baseline", true, 47_000.0),
        line("affluent", false, 45_000.0),
        line("benthos", false, 20_000.0),
        line("spark", false, 7_000.0),
    ];
    for (name, factor) in [("affluent", 1.0), ("spark", 120.0)] {
        for rate in [100_u32, 500, 2_000, 5_000] {
            let base = factor * (4.0 + f64::from(rate) / 1_000.0);
            report.latencies.push(LatencyPoint {
                name: name.to_owned(),
                rate: rate.into(),
                probes: 500,
                p50_ms: base,
                p90_ms: base * 1.4,
                p99_ms: base * 2.5,
                max_ms: base * 5.0,
                kept_up: rate < 5_000 || factor < 2.0,
            });
        }
        let samples = (0..60)
            .map(|at| (f64::from(at) / 4.0, factor.sqrt() * (30.0 + f64::from(at % 7))))
            .collect();
        let name = format!("{name}, draining");
        report.memory.push(MemoryLine { name, samples });
    }
    for (axis, places) in [
        ("records in the backlog", vec![1e5, 1e6, 1e7]),
        ("partitions", vec![1.0, 3.0, 6.0, 12.0]),
        ("bytes in a record", vec![400.0, 1_024.0, 4_096.0]),
    ] {
        for at in places {
            let drain = line("affluent", false, 45_000.0 / f64::ln(at + 2.0).sqrt());
            let axis = axis.to_owned();
            report.growth.push(GrowthPoint { axis, at, drain });
        }
    }
    let cost = |seconds| Cost {
        rows: 30_000,
        seconds,
        cpu_seconds: 0.6,
        peak_mib: 40.0,
    };
    let sent = SentLine::of("publisher, requests of one", &[cost(1.5), cost(2.0), cost(3.0)]);
    report.sent.extend(sent);
    report.breakdown.push(BreakdownLine {
        name: "processor time, publisher".to_owned(),
        unit: "s".to_owned(),
        spread: Spread::of(&[1.0, 1.5, 2.5]).unwrap(),
    });
    let reason = "Batch too large".to_owned();
    report.absent.insert("Flink".to_owned(), reason);
    report
}

#[test]
fn each_kind_of_result_has_a_picture_with_units() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.json");
    sample_report().write(&path).unwrap();
    let drawn = draw(&path).unwrap();
    let texts: Vec<String> = drawn
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(texts.len(), 7);
    let (page, pictures) = texts.split_first().unwrap();
    for line in [
        "| affluent, 300000 | 45000 (42750 to 48600) |",
        "| spark | 5000, did not keep up |",
        "| partitions: 12 |",
        "| publisher, requests of one | 15000 (10000 to 20000, wide) | 20.0 (20.0 to 20.0) | 40.0 (40.0 to 40.0) |",
        "| processor time, publisher | 1.5 s (1 to 2.5) |",
        "Flink: not measured: Batch too large",
    ] {
        assert!(page.contains(line), "no {line:?} in {page}");
    }
    for (text, wanted) in pictures.iter().zip([
        &["rows a second", "driver baseline: 47,000", "Kafka"][..],
        &["records a second", "milliseconds", "spark, p99"],
        &["seconds since", "MiB", "affluent, draining"],
        &["partitions", "rows/s", "Kafka"],
        &["partitions", "CPU s per million rows", "Kafka"],
        &["partitions", "MiB", "Kafka"],
    ]) {
        for word in wanted {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert!(text.starts_with("<svg"), "{text}");
        // A CPU model can contain any character.
        assert!(!text.contains("<Processor>"), "{text}");
    }
}

#[test]
fn empty_report_has_no_pictures() {
    assert!(pictures(&Report::new("none")).is_empty());
}
