//! Where lines go: a bounded buffer and the one thread that writes it out.
//!
//! A request appends its line to memory and goes on; if nobody reads our
//! output, the buffer fills, further lines are dropped, and their number is
//! logged and counted. The thread takes all that has gathered at once, takes
//! the secrets out, and writes it with one call.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::redact::Redactor;

/// Bytes that may wait for the thread: some ten thousand lines.
const CAPACITY: usize = 2 * 1024 * 1024;

/// How long the thread lets lines gather after it wrote some. Under load it
/// writes five hundred times a second and no request has to wake it.
const GATHER: Duration = Duration::from_millis(2);

/// How long the end of the program waits for the last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Lines that were dropped, by every sink of the process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped because nobody read them fast enough.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// Takes lines without ever waiting.
#[derive(Debug)]
pub(super) struct Sink {
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes who waits for the end.
    done: Condvar,
    redactor: ArcSwap<Redactor>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, each with its line feed.
    lines: Vec<u8>,
    /// Lines dropped since the last ones that found room.
    dropped: u64,
    /// The thread waits until somebody wakes it.
    asleep: bool,
    /// No more lines are to come.
    closed: bool,
    /// The thread has ended.
    ended: bool,
}

/// Says how many lines were dropped, in the format of the others.
pub(super) type DroppedLine = fn(u64, &mut Vec<u8>);

impl Sink {
    /// Starts the thread. The sink ends with [`Sink::close`].
    pub(super) fn start(
        out: impl Write + Send + 'static,
        redactor: Redactor,
        dropped: DroppedLine,
    ) -> std::io::Result<Arc<Sink>> {
        Sink::bounded(out, redactor, dropped, CAPACITY)
    }

    fn bounded(
        out: impl Write + Send + 'static,
        redactor: Redactor,
        dropped: DroppedLine,
        capacity: usize,
    ) -> std::io::Result<Arc<Sink>> {
        let sink = Arc::new(Sink {
            state: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            redactor: ArcSwap::from_pointee(redactor),
            capacity,
        });
        let writer = Arc::clone(&sink);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_out(out, dropped))?;
        Ok(sink)
    }

    /// Takes a whole line with its line feed, or drops it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.closed || state.lines.len() + line.len() > self.capacity {
            state.dropped += 1;
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        if state.asleep {
            state.asleep = false;
            self.wake.notify_one();
        }
    }

    /// Takes out other secrets from now on.
    pub(super) fn redact(&self, redactor: Redactor) {
        self.redactor.store(Arc::new(redactor));
    }

    /// Takes no more lines, and waits a bounded time until all are written.
    pub(super) fn close(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut state = self.state.lock();
        state.closed = true;
        self.wake.notify_one();
        while !state.ended {
            if self.done.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    fn write_out(&self, mut out: impl Write, dropped_line: DroppedLine) {
        let (mut taken, mut clean) = (Vec::new(), Vec::new());
        let mut state = self.state.lock();
        loop {
            while state.lines.is_empty() && state.dropped == 0 && !state.closed {
                state.asleep = true;
                self.wake.wait(&mut state);
            }
            state.asleep = false;
            std::mem::swap(&mut state.lines, &mut taken);
            let dropped = std::mem::take(&mut state.dropped);
            let last = state.closed;
            drop(state);

            if dropped > 0 {
                dropped_line(dropped, &mut taken);
            }
            let redactor = self.redactor.load();
            for line in taken.split_inclusive(|&b| b == b'\n') {
                redactor.line(line, &mut clean);
            }
            drop(redactor);
            // Nobody is left to be told that the log can't be written.
            let _ = out.write_all(&clean).and_then(|()| out.flush());
            taken.clear();
            clean.clear();

            state = self.state.lock();
            if last && state.lines.is_empty() {
                state.ended = true;
                self.done.notify_all();
                return;
            }
            if !last {
                // `closed` is the only thing that wakes it here.
                let gather = Instant::now() + GATHER;
                while !state.closed && !self.wake.wait_until(&mut state, gather).timed_out() {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written, and writes only when it is let.
    struct Reader {
        go: mpsc::Receiver<()>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.read.send(buf.to_vec());
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn start(capacity: usize) -> (Arc<Sink>, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (go, reader) = mpsc::channel();
        let (sender, read) = mpsc::channel();
        let redactor = Redactor::new(&["hunter2"]).unwrap();
        let dropped: DroppedLine =
            |n, out| out.extend_from_slice(format!("dropped {n}\n").as_bytes());
        let out = Reader { go: reader, read: sender };
        (Sink::bounded(out, redactor, dropped, capacity).unwrap(), go, read)
    }

    fn next(read: &mpsc::Receiver<Vec<u8>>) -> String {
        String::from_utf8(read.recv_timeout(Duration::from_secs(10)).unwrap()).unwrap()
    }

    #[test]
    fn lines_come_out_in_order_without_secrets() {
        let (sink, go, read) = start(1000);
        go.send(()).unwrap();
        go.send(()).unwrap();
        sink.push(b"one hunter2\n");
        let mut all = next(&read);
        sink.push(b"two\n");
        all += &next(&read);
        assert_eq!(all, "one ***\ntwo\n");
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_never_time() {
        let (sink, go, read) = start(10);
        for _ in 0..100 {
            sink.push(b"12345678\n");
        }
        go.send(()).unwrap();
        let mut all = next(&read);
        drop(go);
        sink.close();
        all.extend(read.iter().map(|b| String::from_utf8(b).unwrap()));
        let written = all.lines().filter(|&l| l == "12345678").count();
        let lost: usize =
            all.lines().filter_map(|l| l.strip_prefix("dropped ")?.parse::<usize>().ok()).sum();
        // One may have been on its way out, and one found room then.
        assert!((1..=3).contains(&written), "{all}");
        assert_eq!(written + lost, 100, "{all}");
        assert!(dropped() >= 97);
    }

    #[test]
    fn what_waits_at_the_end_is_written_at_the_end() {
        let (sink, go, read) = start(1000);
        drop(go);
        for i in 0..10 {
            sink.push(format!("line {i}\n").as_bytes());
        }
        sink.close();
        let all: String = read.iter().map(|b| String::from_utf8(b).unwrap()).collect();
        assert_eq!(all.lines().count(), 10);
        sink.push(b"too late\n");
    }
}
