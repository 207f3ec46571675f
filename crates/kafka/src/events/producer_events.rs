//! Handles a producer's events, such as delivery reports, in a task: no thread has to wait for them, and the task that handles
//! a report wakes the request that waits for it.
//!
//! librdkafka writes to a file descriptor when its queue of events becomes non-empty.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap queue events; each use says why it is sound"
)]

use std::convert::Infallible;
use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka_sys as sys;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// How often the queue is examined without a wake-up.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What librdkafka adds to the counter of the file descriptor.
static WAKE_UP: u64 = 1;

/// The events of a producer.
pub struct ProducerEvents<C: ProducerContext + 'static> {
    // Dropped before the file descriptor, to which librdkafka must not write any more, and before the producer.
    queue: EventQueue,
    wake_ups: AsyncFd<EventFd>,
    producer: Arc<BaseProducer<C>>,
}

impl<C: ProducerContext + 'static> ProducerEvents<C> {
    /// Requests wake-ups for the events of `producer`, of which there must be no other `ProducerEvents`. Call it in a Tokio
    /// runtime.
    ///
    /// # Errors
    /// The operating system's, for example if there are no more file descriptors.
    pub fn new(producer: Arc<BaseProducer<C>>) -> io::Result<Self> {
        let wake_ups = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let queue = EventQueue::new(producer.client(), wake_ups.as_raw_fd());
        // SAFETY: the descriptor is open until the `EventFd` is dropped, and always the same.
        let wake_ups = unsafe { AsyncFd::register_with_interest(wake_ups, Interest::READABLE)? };
        Ok(Self {
            queue,
            wake_ups,
            producer,
        })
    }

    /// Handles events until the future is dropped.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn handle(self) -> io::Result<Infallible> {
        loop {
            // Without events librdkafka writes again at the next one.
            while !self.queue.is_empty() {
                self.producer.poll(Duration::ZERO);
                tokio::task::consume_budget().await;
            }
            tokio::select! {
                ready = self.wake_ups.readable() => {
                    // Resets the counter before the queue is examined, so that no wake-up is lost.
                    let _ = ready?.try_io(|fd| Ok(fd.get_ref().read()?));
                }
                () = sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

/// The main queue of a client, which wakes a file descriptor.
struct EventQueue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka locks the queue in each call.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    fn new<C: ClientContext>(client: &Client<C>, fd: c_int) -> Self {
        // SAFETY: the handle lives as long as the borrowed client. The call adds a reference to the queue, which `drop`
        // releases.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) };
        let queue = Self(NonNull::new(queue).expect("each client has a main queue"));
        // SAFETY: the queue is valid, and librdkafka copies the payload.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(
                queue.0.as_ptr(),
                fd,
                (&raw const WAKE_UP).cast(),
                size_of_val(&WAKE_UP),
            );
        }
        queue
    }

    fn is_empty(&self) -> bool {
        // SAFETY: the queue is valid until `drop`.
        unsafe { sys::rd_kafka_queue_length(self.0.as_ptr()) == 0 }
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is valid, and this is its last use here. With -1 librdkafka writes no more wake-ups.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(self.0.as_ptr(), -1, std::ptr::null(), 0);
            sys::rd_kafka_queue_destroy(self.0.as_ptr());
        }
    }
}
