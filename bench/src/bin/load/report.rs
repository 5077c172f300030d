//! The line of JSON that a measurement ends in.

use std::fmt;
use std::time::Duration;

use crate::histogram::Histogram;

/// What happened in the measured window.
pub struct Report {
    /// Length of the window: from the moment it opened to the moment it was noticed to be over.
    pub elapsed: Duration,
    /// CPU time of the server process in the window, user and system.
    pub server_cpu: Duration,
    /// CPU time of this process in the window. Close to `elapsed`, the client is what limits the
    /// requests per second.
    pub client_cpu: Duration,
    /// Requests that were completed in the window.
    pub requests: u64,
    /// Latencies of the requests that were completed in the window.
    pub latencies: Histogram,
    /// Connections that the server did not close after the client's end of file.
    pub left_open: usize,
    /// Datagrams that were sent again because no echo came.
    pub resent: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{\"requests\": {}, \"elapsed_ns\": {}, \"server_cpu_ns\": {}, \"client_cpu_ns\": {}, \
             \"p50_ns\": {}, \"p99_ns\": {}, \"left_open\": {}, \"resent\": {}}}",
            self.requests,
            self.elapsed.as_nanos(),
            self.server_cpu.as_nanos(),
            self.client_cpu.as_nanos(),
            self.latencies.percentile(0.50),
            self.latencies.percentile(0.99),
            self.left_open,
            self.resent,
        )
    }
}
