//! The web page in a real browser: its links, very many queues, and narrow screens.

use crate::harness::browser::Browser;
use crate::harness::message::message;
use crate::harness::{Relay, Setup, Sink, eventually, place};
use crate::link::Line;

/// The narrowest screens that are still in use, and a small and a large telephone.
const NARROW: [u32; 3] = [320, 360, 390];

fn with_page(setup: Setup) -> Relay {
    let mut page = place::next_address();
    page.set_port(8025);
    setup.admin(&format!("web = \"{page}\"")).start()
}

/// Opens the page as the operator who was given its address.
fn open(browser: &Browser, relay: &Relay) {
    browser.look(1280, 800, "light");
    let url = eventually("the server has made its token", || {
        let finished = relay.run(&["web"]);
        (finished.code == Some(0)).then_some(finished.stdout)
    });
    eventually("the page is served", || {
        browser.try_go(url.trim()).then_some(())
    });
    browser.wait_for("#state", "takes mail");
}

fn send(relay: &Relay, to: &str) {
    let text = message("subject", "text");
    relay
        .client()
        .send("<a@client.example>", &[&format!("<{to}>")], &text);
}

/// Nothing on a page of this width is out of sight to the right.
#[track_caller]
fn assert_fits(browser: &Browser, name: &str) {
    for (number, width) in NARROW.into_iter().enumerate() {
        let scheme = ["light", "dark"][number % 2];
        browser.look(width, 740, scheme);
        browser.picture(&format!("{name}-{width}"));
        let wide = "const root = document.documentElement; \
                    const seen = (e) => { const box = e.getBoundingClientRect(); \
                      return box.width > 0 && !e.closest('details, .hidden, .skip'); }; \
                    const edge = (e) => { const card = e.closest('section'); \
                      return card ? card.getBoundingClientRect().right : root.clientWidth; }; \
                    const over = Array.from(document.querySelectorAll('body *')) \
                      .filter((e) => seen(e) && (e.getBoundingClientRect().right > edge(e) + 0.5 \
                        || (e.tagName === 'DD' && e.scrollWidth > e.clientWidth))) \
                      .map((e) => `${e.tagName} ${e.id} ${e.className} ${e.textContent.slice(0, 20)}`); \
                    if (root.scrollWidth > root.clientWidth) over.push(`scrolls to ${root.scrollWidth}`); \
                    return over.join('; ')";
        assert_eq!(browser.run(wide), "", "a screen of {width}, {name}");
    }
    browser.look(1280, 800, "light");
}

/// A site behind a line, from the page alone: it is dialled, drains, is hung up, remembers
/// that, and tells when a dial fails.
#[test]
fn a_link_is_dialled_and_hung_up_by_the_page() {
    let Some(browser) = Browser::open() else {
        return;
    };
    let line = Line::new();
    let sink = Sink::new();
    let schedule = "[[schedule]]\nat = [\"03:30\"]\ndo = [\"send\"]\n";
    let more = "hang_up = { idle = \"1h\" }\nbudget = { per = \"day\", seconds = 3600 }\n";
    let relay = with_page(
        Setup::to(sink.address())
            .site(&line.link("isp", more))
            .site(schedule)
            .at_noon(),
    );
    open(&browser, &relay);
    browser.wait_for("#links h3", "isp");
    browser.wait_for("#links h3 .pill", "down");
    browser.wait_for("#links-sum", "next window in ");
    browser.wait_for("#links .facts", "budget left 60 min of this day");
    send(&relay, "b@b.example");
    browser.wait_for("#links-sum", "1 ready, 1 waiting");
    assert_eq!(line.done(), [""; 0], "nothing dials by itself");
    browser.picture("link-down");

    browser.click("#links button[aria-label='Dial isp']");
    browser.wait_for("#ask-text", "Bring the link isp up?");
    // Who changes his mind presses Escape.
    browser.type_into("#ask-yes", "\u{e00c}");
    assert_eq!(line.done(), [""; 0]);
    browser.click("#links button[aria-label='Dial isp']");
    browser.wait_for("#ask-text", "Bring the link isp up?");
    browser.click("#ask-yes");
    browser.wait_for("#said", "the link is being brought up");
    sink.wait_for_one();
    browser.wait_for("#links h3 .pill", "idle");
    browser.wait_for("#links .facts", "by the operator");
    let disabled = "return document.querySelector('#links button').disabled";
    assert_eq!(browser.run(disabled), true, "it is up");
    browser.picture("link-up");

    browser.click("#links button[aria-label='Hang up isp']");
    browser.wait_for("#ask-text", "Take the link isp down?");
    browser.click("#ask-yes");
    browser.wait_for("#said", "the link goes down");
    browser.wait_for("#links .facts", "down by the operator");
    browser.wait_for("#links summary", "History: 1 time on line");
    assert_eq!(line.done(), ["up", "down"]);
    browser.click("#links summary");
    browser.wait_for("#links tbody", "by the operator");
    let sent = "return document.querySelector('#links tbody td:nth-child(3)').textContent";
    assert_eq!(browser.run(sent), "1");
    let strip = "return document.querySelector('#links svg').getAttribute('aria-label')";
    assert_eq!(browser.run(strip), "On line 1 time in the last 24 hours");
    let bar = "const bar = document.querySelector('#links svg .outing'); \
               return +bar.getAttribute('x') + +bar.getAttribute('width') <= 1440";
    assert_eq!(browser.run(bar), true, "some seconds of now are in sight");
    // By what it did it is known how long the next message takes.
    send(&relay, "c@b.example");
    browser.wait_for("#links-sum", "1 ready, 1 waiting");
    browser.wait_for("#links .facts", "empty in ");
    browser.picture("link-history");
    assert_fits(&browser, "link");

    line.program("up", "echo 'no carrier on <b>ttyS0</b>' >&2; exit 1");
    browser.click("#links button[aria-label='Dial isp']");
    browser.click("#ask-yes");
    browser.wait_for("#links .facts .wrong", "The last dial failed: ");
    browser.wait_for("#links .facts .wrong", "<b>ttyS0</b>");
    browser.picture("link-failed");
    let disabled = "return document.querySelector('#links button').disabled";
    eventually("he need not wait for the next dial", || {
        (browser.run(disabled) == false).then_some(())
    });
    assert_fits(&browser, "link-failed");
    let console = browser.console();
    let trouble = |line: &String| line.contains("SEVERE") || line.contains("Policy");
    assert!(!console.iter().any(trouble), "{console:?}");
}

/// More queues than the page is told: the filter finds any of them, and acts on it.
#[test]
fn any_of_very_many_queues_is_found() {
    let Some(browser) = Browser::open() else {
        return;
    };
    let sink = Sink::new();
    let relay = with_page(Setup::to(sink.address()).cores(2).customer(&format!(
        "[[customer]]\nname = \"branch\"\ndomains = [\".held.example\"]\n\
         deliver_to = \"{}\"\nrelease = {{ open = true }}\n",
        sink.address()
    )));
    let text = message("subject", "text");
    let mut clients = [relay.client(), relay.client()];
    for number in 0..520 {
        // The last of them is the least of all.
        for client in clients.iter_mut().take(if number == 519 { 1 } else { 2 }) {
            let to = format!("<b@d{number}.held.example>");
            client.send("<a@client.example>", &[&to], &text);
        }
    }
    open(&browser, &relay);
    browser.wait_for("#queues-sum", "520, the fullest 500 here");
    assert_fits(&browser, "many");
    browser.type_into("#filter", "D519.held");
    browser.wait_for("#queues-sum", "1 of 520");
    browser.wait_for("#rows td.hop", "d519.held.example");
    browser.picture("found");
    browser.click("#rows button[aria-label^='Release']");
    browser.wait_for("#ask-text", "Release 1 message");
    browser.click("#ask-yes");
    assert!(sink.wait_for_one().recipients[0].contains("d519"));
    browser.wait_for("#no-rows", "No queue contains this.");
    // Of many that match the fullest are shown, and how many there are.
    browser.type_into("#filter", &"\u{e003}".repeat(9));
    browser.type_into("#filter", "branch");
    browser.wait_for("#queues-sum", "519 of 519, the fullest 500 of them here");
}
