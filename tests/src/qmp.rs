//! QEMU's machine protocol: one JSON object a line over a socket. A question gets an answer; events in between are skipped.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// QEMU answers within milliseconds unless the machine is loaded beyond measure.
const ANSWER_TIME: Duration = Duration::from_secs(60);

pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Greets QEMU on a socket that it is connected to.
    pub fn new(stream: UnixStream) -> Result<Qmp, Failure> {
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        let mut qmp = Qmp { reader: BufReader::new(stream.try_clone()?), writer: stream };
        qmp.next_message()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Failure> {
        writeln!(self.writer, "{}", json!({ "execute": command, "arguments": arguments }))?;
        loop {
            let message = self.next_message()?;
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(Failure::new(format!("QEMU refuses {command}: {error}")));
            }
        }
    }

    /// A command of the human monitor, for what has no command of its own.
    pub fn monitor(&mut self, line: &str) -> Result<String, Failure> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn next_message(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(Failure::new("QEMU has ended"));
        }
        serde_json::from_str(&line).map_err(|error| Failure::new(format!("QEMU said {line:?}: {error}")))
    }
}

/// Seconds since 1970 from the machine's `rtc-time`, which counts guest time under `-rtc clock=vm`.
pub fn seconds_of_rtc(time: &Value) -> Option<u64> {
    let field = |name: &str| time.get(name)?.as_i64();
    let (year, month, day) = (field("tm_year")? + 1900, field("tm_mon")? + 1, field("tm_mday")?);
    // Days from civil: years start in March, so that the leap day is a year's last.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era_day = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + era_day - 719_468;
    u64::try_from(((days * 24 + field("tm_hour")?) * 60 + field("tm_min")?) * 60 + field("tm_sec")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rtc_time_becomes_seconds() {
        let time = |year: i64, month: i64, day: i64, hour: i64| json!({ "tm_year": year - 1900, "tm_mon": month - 1, "tm_mday": day, "tm_hour": hour, "tm_min": 0, "tm_sec": 7 });
        assert_eq!(seconds_of_rtc(&time(1970, 1, 1, 0)), Some(7));
        assert_eq!(seconds_of_rtc(&time(2020, 1, 1, 0)), Some(1_577_836_807));
        assert_eq!(seconds_of_rtc(&time(2020, 3, 1, 1)), Some(1_583_024_407));
        assert_eq!(seconds_of_rtc(&json!({})), None);
    }

    #[test]
    fn events_before_an_answer_are_skipped_and_errors_are_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs)
            .write_all(
                b"{\"QMP\":{}}\n{\"return\":{}}\n{\"event\":\"STOP\"}\n{\"return\":7}\n{\"error\":{\"desc\":\"no\"}}\n",
            )
            .unwrap();
        let mut qmp = Qmp::new(ours).unwrap();
        assert_eq!(qmp.execute("x", json!({})).unwrap(), json!(7));
        assert!(qmp.execute("y", json!({})).unwrap_err().reason().contains("refuses y"));
    }
}
