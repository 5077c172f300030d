//! What a load is to the program, and the line of JSON that a turn of it ends in.

use std::fmt;
use std::time::Duration;

use crate::clocks::Clocks;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::phases::Timing;

/// What is put on a server. It rests between turns: nothing is under way, and its connections stay.
pub trait Load {
    /// Goes through all phases and says what was measured.
    fn turn(&mut self, timing: Timing) -> Result<Report, Failure>;

    /// Ends the connections. How many the server has not closed then.
    fn finish(self: Box<Self>) -> Result<usize, Failure>;
}

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
    /// Latencies that half of these requests, and 99 of 100, do not exceed, in nanoseconds.
    pub p50: u64,
    pub p99: u64,
    /// Connections that the server did not close after the client's end of file.
    pub left_open: usize,
    /// Datagrams that were sent again because no echo came.
    pub resent: u64,
}

impl Report {
    /// Of these clocks, and of the latency of every request.
    pub fn of(between: Clocks, latencies: &Histogram) -> Self {
        Self {
            elapsed: between.wall,
            server_cpu: between.server,
            client_cpu: between.client,
            requests: latencies.total(),
            p50: latencies.percentile(0.50),
            p99: latencies.percentile(0.99),
            left_open: 0,
            resent: 0,
        }
    }
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
            self.p50,
            self.p99,
            self.left_open,
            self.resent,
        )
    }
}
