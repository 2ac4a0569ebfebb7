//! A document on its way to many readers: written once, to a file without a name that goes with its last reader, or to
//! memory where the disk is full. A reader that stalls holds no connection to the database.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

/// A document, whole.
#[derive(Debug)]
pub(crate) struct Spool {
    version: String,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

/// One that is being written.
pub(crate) enum Writer {
    File(BufWriter<File>),
    Memory(Vec<u8>),
}

impl Spool {
    /// Begins one in a file.
    pub(crate) fn in_file() -> io::Result<Writer> {
        Ok(Writer::File(BufWriter::with_capacity(
            1 << 20,
            tempfile::tempfile()?,
        )))
    }

    /// Begins one in memory.
    pub(crate) const fn in_memory() -> Writer {
        Writer::Memory(Vec::new())
    }

    /// Which version it is, as in an `ETag`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The bytes from there on, some 64 KiB of them; none at the end.
    pub(crate) fn read(&self, from: u64) -> io::Result<Vec<u8>> {
        const PIECE: usize = 1 << 16;
        match &self.bytes {
            Bytes::File(file) => {
                let mut piece = vec![0; PIECE];
                let read = file.read_at(&mut piece, from)?;
                piece.truncate(read);
                Ok(piece)
            }
            Bytes::Memory(bytes) => {
                let left = usize::try_from(from).ok().and_then(|from| bytes.get(from..));
                let left = left.unwrap_or_default();
                Ok(left.get(..PIECE).unwrap_or(left).to_vec())
            }
        }
    }
}

impl Writer {
    /// Ends it.
    pub(crate) fn finish(self, version: String) -> io::Result<Spool> {
        let bytes = match self {
            Self::File(file) => Bytes::File(file.into_inner().map_err(io::IntoInnerError::into_error)?),
            Self::Memory(bytes) => Bytes::Memory(bytes),
        };
        Ok(Spool { version, bytes })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let document: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for mut writer in [Spool::in_file().unwrap(), Spool::in_memory()] {
            document
                .chunks(7_777)
                .for_each(|some| writer.write_all(some).unwrap());
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
}
