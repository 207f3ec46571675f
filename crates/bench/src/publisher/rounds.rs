//! Costs of the publisher benchmark's rounds and their figures.

use std::fmt;

use super::target::Costs;
use crate::peers::python::Producer;
use crate::report::SentLine;
use crate::report::figures::{Figure, Goal};
use crate::usage::Cost;

/// Costs of one round.
pub(super) struct Round {
    pub(super) baseline: Cost,
    pub(super) publisher: Costs,
    pub(super) benthos: Option<Costs>,
    /// In the order of [`Producer::ALL`].
    pub(super) python_loops: Option<Vec<Cost>>,
}

/// All rounds. A peer that misses a round has no figures.
pub(super) struct Rounds(pub(super) Vec<Round>);

impl Rounds {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let ratio = |name: &str, ratios: Vec<f64>, least: f64| {
            Figure::measured(name, &ratios, "ratio", Goal::AtLeast(least))
        };
        let speed = Cost::rows_per_second;
        vec![
            ratio(
                "records/s in requests of 100, publisher / baseline",
                self.each(|round| Some(speed(&round.publisher.many) / speed(&round.baseline))),
                0.7,
            ),
            ratio(
                "records/s in requests of 100, publisher / Benthos",
                self.each(|round| Some(speed(&round.publisher.many) / speed(&round.benthos.as_ref()?.many))),
                6.0,
            ),
            ratio(
                "one-record requests/s, 256 callers, publisher / Benthos",
                self.each(|round| Some(speed(&round.publisher.one) / speed(&round.benthos.as_ref()?.one))),
                2.0,
            ),
        ]
    }

    /// The figures of each participant.
    pub(super) fn sent(&self) -> Vec<SentLine> {
        let mut lines = vec![
            SentLine::of("producer baseline", &self.each(|round| Some(round.baseline))),
            SentLine::of(
                "publisher, requests of 100",
                &self.each(|round| Some(round.publisher.many)),
            ),
            SentLine::of(
                "publisher, requests of one",
                &self.each(|round| Some(round.publisher.one)),
            ),
            SentLine::of(
                "Benthos, requests of 100",
                &self.each(|round| Some(round.benthos?.many)),
            ),
            SentLine::of(
                "Benthos, requests of one",
                &self.each(|round| Some(round.benthos?.one)),
            ),
        ];
        for (place, producer) in Producer::ALL.into_iter().enumerate() {
            let costs = self.each(|round| round.python_loops.as_ref()?.get(place).copied());
            lines.push(SentLine::of(&producer.name(), &costs));
        }
        lines.into_iter().flatten().collect()
    }

    /// One value of each round; empty if a round lacks it.
    fn each<T>(&self, of: impl Fn(&Round) -> Option<T>) -> Vec<T> {
        let all: Option<Vec<T>> = self.0.iter().map(of).collect();
        all.unwrap_or_default()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let baseline = self.baseline.rows_per_second();
        write!(
            f,
            "baseline {baseline:.0} records/s, publisher {}",
            self.publisher
        )?;
        if let Some(benthos) = &self.benthos {
            write!(f, ", Benthos {benthos}")?;
        }
        for (producer, cost) in Producer::ALL.into_iter().zip(self.python_loops.iter().flatten()) {
            write!(f, ", {} {:.0}", producer.name(), cost.rows_per_second())?;
        }
        Ok(())
    }
}
