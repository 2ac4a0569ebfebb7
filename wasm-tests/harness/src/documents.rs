//! A static HTTP server for the directory document, with faults.
