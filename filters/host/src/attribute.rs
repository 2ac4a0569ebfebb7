//! What the proxy knows of a stream beside its headers and bodies.

/// One thing that the proxy knows of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// The client's address and port, as the proxy determined them.
    ClientAddress,
    /// How many attempts were begun; a number.
    Attempts,
    /// Our end of the connection to the model server.
    UpstreamLocalAddress,
    /// The answer's status; a number.
    Status,
    /// Who answered: Envoy's `response.code_details`.
    Details,
    /// Envoy's response flags; a number.
    Flags,
    /// When the request began, in nanoseconds since 1970; a number.
    Began,
    /// From then to its end, in nanoseconds; a number.
    Duration,
    /// Bytes of its body; a number.
    BytesIn,
    /// Bytes of the answer's body; a number.
    BytesOut,
    /// The cluster that is asked.
    Cluster,
    /// The name of the provider, from the chosen endpoint's metadata (`tollgate`: `provider`).
    Provider,
}
