//! The log between the steps' pipes and the object store: segments, in memory while they are small and on disk when not.
//!
//! Invariants: memory is one buffer, whatever is printed; `n` and `seq` have no gaps; what is not kept is counted. Called
//! synchronously by whoever reads a pipe, so a slow disk slows the step that prints and nothing else grows.

use super::lines::Encoder;
use crate::clock;
use crate::ship::hash::Hash;
use crate::workspace::make_private;
use roadstead_domain::attempt::protocol::{Limits, Segment, Stream};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use tokio::time::Instant;

/// What is held in memory of the open segment.
const BUFFER_BYTES: usize = 64 * 1024;
/// Kept free under `max_log_bytes` for the line that says what was dropped.
const LAST_LINE_BYTES: u64 = 512;

/// A segment that is complete and waits to be shipped.
#[derive(Debug)]
pub struct Closed {
    pub segment: Segment,
    pub sha256: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Memory(bytes::Bytes),
    File(PathBuf),
}

#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// It was made here. One that is there already is not used: a step put it there.
    is_made: bool,
    segment_bytes: u64,
    max_log_bytes: u64,
    /// The end of the open segment, not yet in its file.
    buffer: Vec<u8>,
    open: Option<Open>,
    closed: VecDeque<Closed>,
    next_seq: u32,
    next_n: u64,
    kept_bytes: u64,
    dropped_lines: u64,
    dropped_bytes: u64,
    /// Why lines are dropped, once they are.
    full: Option<Full>,
    /// Only the last line is still to come.
    finishing: bool,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    first_n: u64,
    file: Option<(PathBuf, File)>,
    hash: Hash,
    /// In the file and in the buffer together.
    size_bytes: u64,
    lines: u32,
    /// Bytes of output in it, for the count if it is lost.
    output_bytes: u64,
}

#[derive(Debug)]
enum Full {
    Limit,
    Disk(io::Error),
}

impl Spool {
    pub fn new(folder: PathBuf, limits: &Limits) -> Self {
        Self {
            folder,
            is_made: false,
            segment_bytes: u64::from(limits.segment_bytes),
            max_log_bytes: limits.max_log_bytes,
            buffer: Vec::new(),
            open: None,
            closed: VecDeque::new(),
            next_seq: 0,
            next_n: 0,
            kept_bytes: 0,
            dropped_lines: 0,
            dropped_bytes: 0,
            full: None,
            finishing: false,
        }
    }

    pub fn add(&mut self, encoder: &mut Encoder, moment_ms: i64, line: &[u8]) {
        if self.full.is_some() {
            return self.drop_line(line);
        }
        let at = self.buffer.len();
        encoder.encode(&mut self.buffer, self.next_n, moment_ms, line);
        let added = (self.buffer.len() - at) as u64;
        if self.kept_bytes + added + LAST_LINE_BYTES > self.max_log_bytes && !self.finishing {
            self.full = Some(Full::Limit);
        } else if self.open.as_ref().is_some_and(|open| open.size_bytes + added > self.segment_bytes) {
            self.seal(at);
        }
        if self.full.is_some() {
            self.buffer.truncate(self.buffer.len() - added as usize);
            return self.drop_line(line);
        }
        self.count(added, line.len() as u64);
        if self.buffer.len() >= BUFFER_BYTES {
            self.spill();
        }
    }

    /// When the open segment got its first line; `None` while there is nothing in it.
    pub fn open_since(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since)
    }

    /// Closes the open segment, for shipping what there is.
    pub fn close_open(&mut self) {
        self.seal(self.buffer.len());
    }

    /// The end of the log: its last line says what was dropped.
    pub fn finish(&mut self) {
        if let Some(why) = self.full.take() {
            let why = match why {
                Full::Limit => format!("the log reached its limit of {} bytes", self.max_log_bytes),
                Full::Disk(error) => format!("the log could not be kept: {error}"),
            };
            let line = format!("{why}; {} lines ({} bytes) were dropped here", self.dropped_lines, self.dropped_bytes);
            self.finishing = true;
            self.add(&mut Encoder::new("", Stream::System), clock::wall_ms(), line.as_bytes());
        }
        self.close_open();
    }

    pub fn first_closed(&self) -> Option<&Closed> {
        self.closed.front()
    }

    pub fn closed(&self) -> impl Iterator<Item = &Closed> {
        self.closed.iter()
    }

    /// The first closed segment was shipped.
    pub fn shipped(&mut self) -> Option<Segment> {
        let Closed { segment, content, .. } = self.closed.pop_front()?;
        if let Content::File(path) = content {
            // The workspace's end removes what can't be removed now.
            let _ = fs::remove_file(path);
        }
        Some(segment)
    }

    fn drop_line(&mut self, line: &[u8]) {
        self.dropped_lines += 1;
        self.dropped_bytes += line.len() as u64 + 1;
    }

    /// Counts the line that stands at the buffer's end, in the open segment or a new one.
    fn count(&mut self, added: u64, output_bytes: u64) {
        let first_n = self.next_n;
        let open = self.open.get_or_insert_with(|| Open {
            since: clock::now(),
            first_n,
            file: None,
            hash: Hash::new(),
            size_bytes: 0,
            lines: 0,
            output_bytes: 0,
        });
        open.size_bytes += added;
        open.lines += 1;
        open.output_bytes += output_bytes + 1;
        self.next_n += 1;
        self.kept_bytes += added;
    }

    /// Moves the buffer into the open segment's file.
    fn spill(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let written = self.write(&mut open, self.buffer.len());
        self.open = Some(open);
        self.buffer.clear();
        if let Err(error) = written {
            self.lose_open(error);
        }
    }

    /// Closes the open segment with the first `end` bytes of the buffer.
    fn seal(&mut self, end: usize) {
        let Some(mut open) = self.open.take() else { return };
        // While nothing waits, it will leave at once and needs no disk; the last one must not fail for want of disk.
        let in_memory = open.file.is_none() && (self.closed.is_empty() || self.finishing);
        let written = if in_memory {
            open.hash.update(&self.buffer[..end]);
            Ok(Content::Memory(bytes::Bytes::copy_from_slice(&self.buffer[..end])))
        } else {
            self.write(&mut open, end).map(Content::File)
        };
        self.buffer.drain(..end);
        match written {
            Ok(content) => {
                let segment = Segment { seq: self.next_seq, size_bytes: open.size_bytes, lines: open.lines };
                self.closed.push_back(Closed { segment, sha256: open.hash.finish(), content });
                self.next_seq += 1;
            }
            Err(error) => {
                self.open = Some(open);
                self.lose_open(error);
            }
        }
    }

    /// Writes the first `end` bytes of the buffer to the segment's file, and answers its path.
    fn write(&mut self, open: &mut Open, end: usize) -> io::Result<PathBuf> {
        let (path, file) = match &mut open.file {
            Some(file) => file,
            none => none.insert(self.create()?),
        };
        file.write_all(&self.buffer[..end])?;
        open.hash.update(&self.buffer[..end]);
        Ok(path.clone())
    }

    /// Steps can write where it lies: no file is used that is there already, be it a pipe that nobody reads or a link to somewhere else.
    fn create(&mut self) -> io::Result<(PathBuf, File)> {
        if !self.is_made {
            make_private(&self.folder)?;
            self.is_made = true;
        }
        let path = self.folder.join(self.next_seq.to_string());
        let create = || File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = match create() {
            // Somebody has tidied up an empty folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_private(&self.folder)?;
                create()?
            }
            created => created?,
        };
        Ok((path, file))
    }

    /// The disk is full or broken: the open segment's lines count as dropped, and their numbers are used again.
    fn lose_open(&mut self, error: io::Error) {
        if let Some(open) = self.open.take() {
            self.kept_bytes -= open.size_bytes;
            self.dropped_lines += u64::from(open.lines);
            self.dropped_bytes += open.output_bytes;
            self.next_n = open.first_n;
            if let Some((path, _)) = open.file {
                let _ = fs::remove_file(path);
            }
        }
        self.full = Some(Full::Disk(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::hash::sha256;
    use roadstead_domain::attempt::protocol::LogLine;
    use std::os::unix::fs::symlink;

    fn limits(segment_bytes: u32, max_log_bytes: u64) -> Limits {
        Limits {
            max_line_bytes: 1000,
            segment_bytes,
            max_log_bytes,
            max_result_bytes: 0,
            inline_result_bytes: 0,
            max_artifacts: 0,
            max_artifact_bytes: 0,
            part_bytes: 0,
        }
    }

    fn print(spool: &mut Spool, lines: usize) {
        let mut encoder = Encoder::new("s", Stream::Stdout);
        for i in 0..lines {
            spool.add(&mut encoder, 1, format!("line {i} {}", "x".repeat(100)).as_bytes());
        }
    }

    /// Takes out everything, checking each segment against what is said of it.
    fn take(spool: &mut Spool) -> Vec<LogLine> {
        let mut found = Vec::new();
        let mut seq = None;
        while let Some(closed) = spool.first_closed() {
            let bytes = match &closed.content {
                Content::Memory(bytes) => bytes.to_vec(),
                Content::File(path) => fs::read(path).unwrap(),
            };
            assert_eq!(closed.sha256, sha256(&bytes));
            assert_eq!(closed.segment.size_bytes, bytes.len() as u64);
            assert!(seq.is_none_or(|seq| closed.segment.seq == seq + 1), "no gaps");
            seq = Some(closed.segment.seq);
            let lines: Vec<LogLine> =
                bytes.split_inclusive(|&b| b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
            assert_eq!(closed.segment.lines as usize, lines.len());
            found.extend(lines);
            spool.shipped();
        }
        assert!(found.iter().enumerate().all(|(i, line)| line.n == i as u64), "no gaps");
        found
    }

    #[test]
    fn lines_come_out_in_segments_that_keep_their_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().join("log"), &limits(200_000, 100_000_000));
        print(&mut spool, 5_000);
        spool.finish();
        assert!(spool.closed().all(|closed| closed.segment.size_bytes <= 200_000));
        assert_eq!(spool.closed().count(), 5);
        assert_eq!(take(&mut spool).len(), 5_000);
        assert_eq!(fs::read_dir(folder.path().join("log")).unwrap().count(), 0, "a shipped segment's file is gone");
    }

    #[test]
    fn a_little_output_needs_no_disk_and_none_no_segment() {
        let mut spool = Spool::new(PathBuf::from("/proc/not/a/folder"), &limits(1_000_000, 100_000_000));
        spool.finish();
        assert!(spool.first_closed().is_none());
        print(&mut spool, 3);
        assert!(spool.open_since().is_some());
        spool.finish();
        assert_eq!(take(&mut spool).len(), 3);
    }

    #[test]
    fn past_the_limit_lines_are_counted_and_the_last_line_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().join("log"), &limits(4_000, 10_000));
        print(&mut spool, 1_000);
        spool.finish();
        let size: u64 = spool.closed().map(|closed| closed.segment.size_bytes).sum();
        assert!(size <= 10_000 && size > 8_000, "{size}");
        let lines = take(&mut spool);
        let last = lines.last().unwrap();
        assert_eq!(last.stream, Stream::System);
        assert!(last.line.contains(&format!("; {} lines (", 1_000 - (lines.len() - 1))), "{}", last.line);
    }

    #[test]
    fn what_a_step_laid_where_the_log_is_kept_is_neither_waited_for_nor_written_to() {
        type Lay = fn(&std::path::Path);
        let lays: [Lay; 4] = [
            |folder| {
                fs::create_dir(folder).unwrap();
                let (pipe, mode) = (folder.join("0"), rustix::fs::Mode::RWXU);
                rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            },
            |folder| fs::create_dir(folder).unwrap(),
            |folder| symlink(folder.with_file_name("outside"), folder).unwrap(),
            |folder| fs::write(folder, "").unwrap(),
        ];
        for lay in lays {
            let under = tempfile::tempdir().unwrap();
            fs::create_dir(under.path().join("outside")).unwrap();
            lay(&under.path().join("log"));
            let mut spool = Spool::new(under.path().join("log"), &limits(1_000_000, 100_000_000));
            print(&mut spool, 5_000);
            spool.finish();
            assert!(take(&mut spool).last().unwrap().line.starts_with("the log could not be kept: File exists"));
            assert_eq!(fs::read_dir(under.path().join("outside")).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_link_that_a_step_laid_for_the_next_segment_is_not_followed() {
        let under = tempfile::tempdir().unwrap();
        let outside = under.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let mut spool = Spool::new(under.path().join("log"), &limits(200_000, 100_000_000));
        print(&mut spool, 1_600);
        symlink(&outside, under.path().join("log/1")).unwrap();
        print(&mut spool, 5_000);
        spool.finish();
        assert_eq!(fs::read(&outside).unwrap(), b"kept");
        assert!(take(&mut spool).last().unwrap().line.starts_with("the log could not be kept: File exists"));
    }

    #[test]
    fn a_disk_that_fails_costs_log_lines_and_nothing_else() {
        let mut spool = Spool::new(PathBuf::from("/proc/not/a/folder"), &limits(1_000_000, 100_000_000));
        print(&mut spool, 10);
        spool.close_open();
        print(&mut spool, 5_000);
        spool.finish();
        let lines = take(&mut spool);
        assert_eq!(lines.len(), 11);
        assert!(lines[10].line.starts_with("the log could not be kept: "), "{}", lines[10].line);
        assert!(lines[10].line.contains("; 5000 lines ("), "{}", lines[10].line);
    }
}
