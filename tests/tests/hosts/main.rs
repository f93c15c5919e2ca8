//! Ordinary hosts: without IPv6, without UDP, in sandboxes, with a taken port, behind a 1:1 NAT, with
//! hundreds of addresses, on one local network, with name servers that change, behind proxies.

#![allow(clippy::unwrap_used)]

mod addresses;
mod dht;
mod dns;
mod doctor;
mod external;
mod families;
mod faults;
mod firewalls;
mod lan;
mod mainline;
mod mapping;
mod names;
mod pinholes;
mod ports;
mod route;
mod sandbox;
mod seeds;
mod sources;
mod stock_neighbour;
mod verified;
mod web;
mod world;

use std::net::Ipv6Addr;
use std::process::ExitCode;

use families::Named;
use libtest_mimic::Trial;
use mapping::End;
use pinholes::Router;
use punchline_tests::lab::{Families, PortMapping, WELL_KNOWN_PREFIX};
use punchline_tests::scene::Transport;
use punchline_tests::trial::{self, lab_trial, miniupnpd_trial, tool_trial, trial};

fn main() -> ExitCode {
    // The trials run this program once more, as a stock peer: one program fewer to link.
    if stock_neighbour::asked() {
        return stock_neighbour::run();
    }
    let mut trials = vec![
        trial("of_twenty_relays_started_at_once_on_one_port_exactly_one_listens", ports::twenty),
        trial("a_port_of_another_program_is_refused_and_the_program_named", ports::foreign),
        trial("a_killed_relay_starts_again_at_once_on_its_port", ports::restart),
        trial("a_relay_at_the_address_of_its_nat_says_the_command_that_works", ports::outside),
        trial("a_host_without_ipv6_in_its_kernel_starts_and_says_so", sandbox::no_ipv6),
        trial("a_given_wildcard_of_a_missing_family_is_passed_over", sandbox::given_wildcard),
        trial("a_host_without_udp_starts_and_says_so", sandbox::no_udp),
        trial("a_host_without_any_socket_says_what_each_address_said", sandbox::nothing),
        trial("a_sandbox_without_netlink_listens_everywhere_and_reserves", sandbox::no_netlink),
        lab_trial("an_address_that_comes_is_listened_on_without_netlink", sandbox::address_comes),
        lab_trial("every_command_starts_at_once_where_ipv6_is_switched_off", addresses::ipv6_off),
        lab_trial("an_address_that_comes_later_is_listened_on", addresses::comes_later),
        lab_trial("a_host_with_hundreds_of_addresses_still_punches", addresses::hundreds),
        lab_trial("a_relay_by_name_is_found_when_the_name_servers_change", names::servers_change),
        lab_trial("an_empty_resolv_conf_matters_only_to_names", names::empty),
        lab_trial("a_relay_behind_dnsaddr_is_found", names::dnsaddr),
        lab_trial(
            "a_server_and_a_client_that_know_their_relay_by_a_name_alone_meet",
            names::meet_by_name_alone,
        ),
        lab_trial("a_relay_that_moves_while_it_is_down_is_found_by_its_name", names::relay_moves),
        lab_trial("a_place_is_held_at_each_of_two_relays_behind_one_name", names::two_relays),
        lab_trial(
            "dns_that_is_dead_at_the_start_is_said_once_and_the_relay_found_when_it_is_back",
            names::dns_dead_at_start,
        ),
        lab_trial(
            "where_only_https_gets_out_a_session_runs_over_a_websocket_and_says_why_it_stays_there",
            web::https_alone,
        ),
        lab_trial("a_network_that_blocks_udp_is_said_to_and_passed_over_tcp", web::udp_blocked),
        lab_trial(
            "a_peer_behind_a_nat_is_found_by_its_id_alone_in_a_private_160_bit_network",
            mainline::by_id_alone,
        ),
        lab_trial("a_peer_is_found_by_what_the_records_of_a_domain_say", sources::by_a_domain),
        lab_trial(
            "a_dht_is_begun_at_a_name_that_stands_for_other_nodes_later",
            sources::bootstrap_by_name,
        ),
        lab_trial(
            "a_peer_that_registered_at_a_meeting_point_is_found_there_by_its_id",
            sources::at_a_meeting_point,
        ),
        lab_trial("a_peer_is_found_by_its_pkarr_key_alone", sources::by_a_pkarr_key),
        tool_trial(
            "aria2_and_our_node_find_what_the_other_announced",
            mainline::no_aria2,
            mainline::with_aria2,
        ),
        tool_trial(
            "libtorrent_and_our_node_find_what_the_other_announced",
            mainline::no_libtorrent,
            mainline::with_libtorrent,
        ),
        tool_trial(
            "hosts_that_have_only_a_proxy_meet_at_a_relay_that_only_the_proxy_can_look_up",
            web::no_tinyproxy,
            web::proxy_alone,
        ),
        tool_trial(
            "what_a_proxy_refuses_is_said_with_what_to_do_and_without_the_password",
            web::no_tinyproxy,
            web::proxy_refuses,
        ),
        miniupnpd_trial(
            "a_mapped_port_is_renewed_in_time_also_at_a_router_that_forgot_it",
            mapping::renewed,
        ),
        miniupnpd_trial("a_host_that_gets_another_address_has_its_ports_mapped_anew", mapping::moves),
        miniupnpd_trial("a_router_that_is_to_be_left_alone_maps_nothing", mapping::left_alone),
        lab_trial("a_router_that_maps_nothing_is_no_word_worth", mapping::silent),
        lab_trial(
            "a_ticket_leads_in_at_a_port_that_was_forwarded_by_hand_without_any_relay",
            external::by_a_ticket,
        ),
        lab_trial(
            "a_port_that_is_not_forwarded_though_external_says_so_is_warned_of_until_it_is",
            external::not_forwarded,
        ),
        lab_trial(
            "nobody_but_the_router_is_asked_for_upnp_or_for_a_pinhole",
            mapping::asks_the_router_alone,
        ),
        lab_trial("the_doctor_says_in_each_network_what_to_expect_there", doctor::each_network),
        lab_trial(
            "the_doctor_says_of_each_nat_what_it_is_and_what_to_expect_behind_it",
            doctor::each_nat,
        ),
        lab_trial("the_doctor_says_that_no_name_server_answers", doctor::dead_dns),
        lab_trial(
            "connecting_to_a_black_hole_ends_within_ten_seconds_and_says_what_was_tried",
            firewalls::black_hole,
        ),
        lab_trial(
            "what_the_doctor_prints_for_nftables_lets_others_in_at_a_relay_s_ports_and_nowhere_else",
            firewalls::opened_by_what_is_printed,
        ),
    ];
    trials.push(lab_trial(
        "a_peer_behind_another_nat_is_found_by_its_id_in_the_dht_and_reached_directly",
        dht::by_its_id,
    ));
    trials.push(lab_trial(
        "a_node_that_restarts_while_its_bootstrap_node_is_down_finds_its_peer",
        dht::without_its_bootstrap,
    ));
    trials.push(lab_trial(
        "a_forward_to_a_namespace_goes_to_another_member_when_the_one_it_uses_is_gone",
        dht::any_member,
    ));
    trials.push(lab_trial(
        "one_monitor_two_listeners_and_two_dialers_on_one_host_find_each_other",
        seeds::one_host,
    ));
    trials.push(lab_trial("a_bootstrap_node_that_hangs_is_down_within_45_s", dht::hung_bootstrap));
    trials
        .push(lab_trial("a_network_that_is_split_for_a_minute_is_one_again_a_minute_after", dht::split));
    trials.extend(route::trials());
    trials.extend(verified());
    trials.extend(families());
    trials.extend(faults::trials());
    trials.extend(lan());
    for (protocol, name) in
        [(PortMapping::Pcp, "PCP"), (PortMapping::NatPmp, "NAT-PMP"), (PortMapping::Upnp, "UPnP")]
    {
        let trial =
            format!("the_doctor_finds_that_the_router_maps_ports_by_{protocol}_and_leaves_none_mapped");
        trials.push(miniupnpd_trial(&trial, move || doctor::router_maps(protocol, name)));
    }
    for (router, which) in [(Router::Global, "global"), (Router::LinkLocal, "link_local")] {
        let name = format!(
            "a_router_known_by_a_{which}_address_lets_anybody_in_over_ipv6_while_the_node_runs_and_nobody_after"
        );
        trials.push(miniupnpd_trial(&name, move || pinholes::open_while_it_runs(router)));
    }
    trials.push(miniupnpd_trial(
        "a_host_that_gets_another_ipv6_address_has_pinholes_to_that_one",
        pinholes::moves,
    ));
    for (end, whose) in [(End::Server, "server"), (End::Client, "client")] {
        for protocol in [PortMapping::Pcp, PortMapping::NatPmp, PortMapping::Upnp] {
            let name = format!(
                "where_routers_reset_the_punch_a_port_mapped_by_{protocol}_for_the_{whose}_makes_the_session_direct"
            );
            trials.push(miniupnpd_trial(&name, move || mapping::becomes_direct(protocol, end)));
        }
        let name = format!("an_upgrade_through_a_port_mapped_for_the_{whose}_says_so_at_both_ends");
        trials.push(miniupnpd_trial(&name, move || mapping::is_named(end, Families::V4)));
        let name = format!(
            "where_routers_reset_the_punch_over_ipv6_a_pinhole_for_the_{whose}_makes_the_session_direct_and_both_ends_say_so"
        );
        trials.push(miniupnpd_trial(&name, move || mapping::is_named(end, Families::V6)));
    }
    for transport in [Transport::Tcp, Transport::Quic] {
        let name = format!(
            "where_no_punch_can_succeed_a_port_that_was_forwarded_by_hand_makes_the_session_direct_over_{transport}"
        );
        trials.push(lab_trial(&name, move || external::by_a_relay(transport)));
    }
    trial::run(trials)
}

fn verified() -> Vec<Trial> {
    vec![
        lab_trial(
            "where_all_is_well_six_steps_of_the_verification_pass_and_the_node_says_so",
            verified::where_all_is_well,
        ),
        lab_trial(
            "a_blocked_port_fails_the_verification_at_its_step_and_is_named",
            verified::a_blocked_port,
        ),
        lab_trial(
            "a_private_address_that_is_told_to_everybody_fails_the_verification_at_step_five",
            verified::a_private_address,
        ),
        lab_trial(
            "another_network_fails_the_verification_at_step_one_and_another_secret_at_step_six",
            verified::another_network_and_another_secret,
        ),
    ]
}

fn lan() -> Vec<Trial> {
    vec![
        lab_trial(
            "a_peer_on_the_same_network_is_found_within_a_second_by_its_id_alone",
            lan::without_any_address,
        ),
        lab_trial(
            "a_peer_that_comes_to_the_same_network_is_found_within_a_second",
            lan::who_comes_later,
        ),
        lab_trial(
            "where_relay_and_local_network_both_lead_to_a_peer_the_network_wins",
            lan::beside_a_relay,
        ),
        lab_trial("a_peer_that_was_found_once_is_found_again_without_asking", lan::again),
        lab_trial("a_node_that_is_to_be_silent_on_its_networks_is_not_found_there", lan::silent),
        lab_trial("stock_libp2p_and_a_node_find_each_other_on_their_network", lan::stock),
    ]
}

fn families() -> Vec<Trial> {
    let mut trials = vec![
        lab_trial(
            "symmetric_nats_that_both_ends_know_of_stop_no_punch_over_ipv6",
            families::known_kinds_stop_no_punch,
        ),
        lab_trial("a_relay_with_addresses_of_both_families_is_reached_around_a_black_hole", || {
            families::black_hole(Named::ByAddresses)
        }),
        lab_trial("a_relay_whose_name_has_both_families_is_reached_around_a_black_hole", || {
            families::black_hole(Named::ByName)
        }),
    ];
    for transport in [Transport::Tcp, Transport::Quic] {
        for (relay, whose) in [(Families::Both, "both_families"), (Families::V4, "ipv4_alone")] {
            let name = format!(
                "between_symmetric_nats_ipv6_becomes_direct_over_{transport}_by_a_relay_with_{whose}"
            );
            trials.push(lab_trial(&name, move || families::only_v6_can_be_punched(transport, relay)));
        }
        for (client, which) in [(Families::V4, "ipv4"), (Families::V6, "ipv6")] {
            let name = format!("a_dual_host_and_one_with_{which}_alone_become_direct_over_{transport}");
            trials.push(lab_trial(&name, move || families::one_in_common(client, transport)));
        }
        let name = format!(
            "a_dual_host_that_found_its_relay_by_name_and_one_with_ipv4_alone_become_direct_over_{transport}"
        );
        trials.push(lab_trial(&name, move || families::one_in_common_by_name(transport)));
        for (prefix, which) in [(WELL_KNOWN_PREFIX, "well_known"), (OWN_PREFIX, "discovered")] {
            let name = format!(
                "a_host_with_ipv6_alone_has_a_session_by_an_ipv4_relay_through_nat64_at_the_{which}_prefix_over_{transport}"
            );
            let body = move || families::behind_nat64(prefix, transport);
            trials.push(tool_trial(&name, families::no_tayga, body));
        }
    }
    trials
}

/// Of a network's own translator.
const OWN_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0x64, 0, 0, 0, 0, 0);
