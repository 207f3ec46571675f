//! File systems that are full or can only be read, under the ingester's state and under the broker's log.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::disk::{DiskError, SmallDisk};
use crate::chaos::evidence::{Loss, Sign, Who};
use crate::chaos::fault::{Disk, Spoiled};
use crate::process::Child;

/// For a process to end that can't write, and for a broker to notice.
const DEADLINE: Duration = Duration::from_secs(30);

impl Scene<'_> {
    pub(super) async fn spoil(
        &self,
        disk: Disk,
        spoiled: Spoiled,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let found = match disk {
            Disk::Ingester => self.plot.disk.as_deref(),
            Disk::Kafka => self.venue.disk.as_ref(),
        };
        let found = found.ok_or_else(|| RoundError::Refused {
            what: "a disk of its own",
            log: disk.to_string(),
        })?;
        match disk {
            Disk::Ingester => self.spoil_state(found, spoiled, lasts).await,
            Disk::Kafka => self.spoil_log(found, spoiled, lasts).await,
        }
    }

    /// Without its state the ingester ends with 1, and whoever starts it again before the disk is mended is told so.
    async fn spoil_state(
        &self,
        disk: &SmallDisk,
        spoiled: Spoiled,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let who = Who::Ingester;
        let mut service = self.crew.get(who).await;
        let began = self.now();
        block_in_place(|| harm(disk, spoiled))?;
        match service.wait(DEADLINE).await {
            Ok(Some(1)) => service.forget(),
            ended => {
                let told = format!("{who} was to end with 1, its disk is spoiled: {ended:?}");
                self.crew.note(told);
                self.crew.kill(who, &mut service).await?;
            }
        }
        service.spawn()?;
        sleep(lasts).await;
        // It may end at once, or wait for something to write; it must not end as if all were well.
        if let Some(Ok(Some(status))) = service.child().map(Child::exit_status) {
            if !matches!(status.code(), Some(1 | 78)) {
                self.crew
                    .note(format!("{who}, started on a spoiled disk: {status}"));
            }
            service.forget();
        }
        self.crew.kill(who, &mut service).await?;
        block_in_place(|| mend(disk, spoiled))?;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    /// The broker ends by itself once it can't write, and is started when there is room again.
    async fn spoil_log(
        &self,
        disk: &SmallDisk,
        spoiled: Spoiled,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let node = self.venue.stack.kafka.node(0)?;
        block_in_place(|| harm(disk, spoiled))?;
        let until = Instant::now() + DEADLINE;
        while node.pid().is_some() && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
        let began = self.now();
        sleep(lasts).await;
        if node.pid().is_some() {
            node.kill().await?;
        }
        block_in_place(|| mend(disk, spoiled))?;
        node.start().await?;
        let of = [vec![Who::Publisher], self.crew.streamers()].concat();
        let dependency = "kafka";
        Ok(Effect {
            loses: Some(Loss { dependency, of }),
            signs: vec![Sign::Missed(dependency), Sign::Fell("publisher_kafka_up")],
            ..self.effect(began)
        })
    }
}

fn harm(disk: &SmallDisk, spoiled: Spoiled) -> Result<(), DiskError> {
    match spoiled {
        Spoiled::Full => disk.fill(),
        Spoiled::ReadOnly => disk.spoil(),
    }
}

fn mend(disk: &SmallDisk, spoiled: Spoiled) -> Result<(), DiskError> {
    match spoiled {
        Spoiled::Full => disk.empty(),
        Spoiled::ReadOnly => disk.mend(),
    }
}
