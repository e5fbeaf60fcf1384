//! Pipes and devices, read with bounds: neither an endless source nor a silent one holds the program up.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long a source may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// Reads a file, a pipe or a device to its end, at most `limit` bytes of it.
///
/// # Errors
/// What the system says; a source from which nothing comes for ten seconds.
pub fn read_stream(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let (sender, receiver) = sync_channel(4);
    let source = path.to_path_buf();
    // To open a pipe without a writer blocks already, and no system call ends that: the thread is left asleep then.
    thread::Builder::new().name("stream".into()).spawn(move || send_all(&source, &sender))?;
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let chunk = receiver.recv_timeout(SILENCE).map_err(|_| {
            let silence = format!("nothing came through this pipe or device for {} seconds", SILENCE.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, silence)
        })??;
        if chunk.is_empty() {
            break;
        }
        bytes.extend(chunk);
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// Sends what is read, then an empty chunk; stops where nobody listens any more.
fn send_all(path: &Path, sender: &SyncSender<io::Result<Vec<u8>>>) {
    let read = || -> io::Result<()> {
        let mut file = File::open(path)?;
        loop {
            let mut chunk = vec![0; CHUNK];
            let length = match file.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            chunk.truncate(length);
            if sender.send(Ok(chunk)).is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    if let Err(error) = read() {
        // The listener may have left.
        let _ = sender.send(Err(error));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn an_endless_source_is_cut_and_a_pipe_read_to_its_end() {
        assert_eq!(read_stream(Path::new("/dev/zero"), 100_000).unwrap(), vec![0; 100_000]);
        assert!(read_stream(Path::new("/dev/null"), 10).unwrap().is_empty());
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let writer = pipe.clone();
        let thread = thread::spawn(move || std::fs::write(writer, vec![7; 200_000]));
        assert_eq!(read_stream(&pipe, 1 << 20).unwrap(), vec![7; 200_000]);
        thread.join().unwrap().unwrap();
        assert!(read_stream(&folder.path().join("absent"), 10).is_err());
    }
}
