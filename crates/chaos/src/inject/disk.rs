//! File systems that are full or can only be read, under the ingester's state and under the broker's log.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::disk::{DiskError, SmallDisk};
use crate::evidence::{Loss, Sign, Who};
use crate::fault::{Disk, Spoiled};
use testkit::process::Child;

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
            Disk::Ingester => self.plot.disk.as_ref(),
            Disk::Kafka => self.venue.disk.as_ref(),
        };
        let found = found.ok_or_else(|| RoundError::Refused {
            what: "a disk of its own",
            log: disk.to_string(),
        })?;
        let found = Spoilt(Arc::clone(found), spoiled);
        match disk {
            Disk::Ingester => self.spoil_state(found, lasts).await,
            Disk::Kafka => self.spoil_log(found, lasts).await,
        }
    }

    /// Without its state the ingester ends with 1, and whoever starts it again before the disk is mended is told so.
    async fn spoil_state(&self, disk: Spoilt, lasts: Duration) -> Result<Effect, RoundError> {
        let who = Who::Ingester;
        let mut service = self.crew.get(who).await;
        let began = self.now();
        self.crew.stand_up(who, &mut service).await?;
        disk.harm().await?;
        match service.wait(DEADLINE).await {
            Ok(Some(1)) => service.mark_ended(),
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
            service.mark_ended();
        }
        self.crew.kill(who, &mut service).await?;
        disk.mend().await?;
        self.crew.revive(who, &mut service).await?;
        Ok(self.restarted(began, vec![who]))
    }

    /// The broker ends by itself once it can't write, and is started when there is room again. Until then it answers as
    /// ever, so nobody misses it before.
    async fn spoil_log(&self, disk: Spoilt, lasts: Duration) -> Result<Effect, RoundError> {
        let node = self.venue.stack.kafka.node(0)?;
        disk.harm().await?;
        let until = Instant::now() + DEADLINE;
        while node.pid().is_some() && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
        let began = self.now();
        sleep(lasts).await;
        if node.pid().is_some() {
            let told = format!("{} went on with its disk spoiled", node.name());
            self.crew.is_without_effect(told);
            node.kill().await?;
        }
        disk.mend().await?;
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

/// A disk, and what befalls it. The tools of the system take their time, in which everybody else goes on.
struct Spoilt(Arc<SmallDisk>, Spoiled);

impl Spoilt {
    async fn harm(&self) -> Result<(), RoundError> {
        self.apart(|disk, spoiled| match spoiled {
            Spoiled::Full => disk.fill(),
            Spoiled::ReadOnly => disk.spoil(),
        })
        .await
    }

    async fn mend(&self) -> Result<(), RoundError> {
        self.apart(|disk, spoiled| match spoiled {
            Spoiled::Full => disk.empty(),
            Spoiled::ReadOnly => disk.mend(),
        })
        .await
    }

    async fn apart(&self, work: fn(&SmallDisk, Spoiled) -> Result<(), DiskError>) -> Result<(), RoundError> {
        let (disk, spoiled) = (Arc::clone(&self.0), self.1);
        let done = spawn_blocking(move || work(&disk, spoiled)).await;
        let refused = |error: tokio::task::JoinError| RoundError::Refused {
            what: "work on a small disk",
            log: error.to_string(),
        };
        Ok(done.map_err(refused)??)
    }
}
