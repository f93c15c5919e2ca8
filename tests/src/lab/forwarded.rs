//! Ports that the owner of a router has it forward, on a page of it, by hand.

use super::command::run;
use super::{Lab, LabError};

impl Lab {
    /// Makes router `index` forward what comes to its public port `outside`, over TCP and UDP, to port `inside` of its host,
    /// whatever else it does. [`Lab::set_router`] ends that.
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn forward_port(&self, index: usize, outside: u16, inside: u16) -> Result<(), LabError> {
        let host = self.host(index).address();
        // Before all other rules.
        let mut rules = r#"insert rule ip lab forward iifname "wan" ct status dnat accept"#.to_owned();
        for protocol in ["tcp", "udp"] {
            rules += &format!(
                "\ninsert rule ip lab prerouting iifname \"wan\" {protocol} dport {outside} dnat to {host}:{inside}"
            );
        }
        run(self.router(index).command("nft").args(["-f", "-"]), Some(&(rules + "\n"))).map(drop)
    }
}
