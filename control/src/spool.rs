//! A document on its way to many readers: written once, to a file that has no name, so that it ends with its last reader.
//! A reader that stalls holds neither memory nor a connection to the database.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

/// A document, whole.
#[derive(Debug)]
pub(crate) struct Spool {
    version: String,
    file: File,
}

/// One that is being written.
pub(crate) struct Writer(BufWriter<File>);

impl Spool {
    /// Begins one.
    pub(crate) fn writer() -> io::Result<Writer> {
        Ok(Writer(BufWriter::with_capacity(1 << 20, tempfile::tempfile()?)))
    }

    /// Which version it is, as in an `ETag`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The bytes from there on, some 64 KiB of them; none at the end.
    pub(crate) fn read(&self, from: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; 1 << 16];
        let read = self.file.read_at(&mut piece, from)?;
        piece.truncate(read);
        Ok(piece)
    }
}

impl Writer {
    /// Ends it.
    pub(crate) fn finish(self, version: String) -> io::Result<Spool> {
        let file = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Spool { version, file })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let document: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut writer = Spool::writer().unwrap();
        document.chunks(7_777).for_each(|some| writer.write_all(some).unwrap());
        let spool = writer.finish("a-1".to_owned()).unwrap();
        let mut read = Vec::new();
        loop {
            let piece = spool.read(read.len() as u64).unwrap();
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert!(read == document);
        assert_eq!(spool.version(), "a-1");
    }
}
