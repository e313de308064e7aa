//! Plans are displayed as aligned tables and as Mermaid flowcharts.

use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

struct Leaf;

impl Leaf {
    fn flush(&mut self) {}

    fn end(self) {}
}

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(name = "proxy")]
struct Server {
    #[shutdown(priority = -1, best_effort)]
    token: Leaf,
    #[shutdown(priority = 10)]
    storage: Storage,
    #[shutdown(after = storage, with = Leaf::flush, timeout = self.grace, at_most = "5s", required)]
    r#type: Leaf,
    #[shutdown(priority = 20, with = |leaf| leaf.flush(), timeout = self.grace)]
    cache: Leaf,
    #[shutdown(priority = 20)]
    either: Either,
    #[shutdown(after(cache, either), leaf)]
    hidden: Storage,
    grace: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part, timeout = "8s")]
struct Storage {
    #[shutdown(priority = 5, timeout = "1s 500ms")]
    writer: Leaf,
    #[shutdown(priority = 100, timeout = "250ms", with = Leaf::end, take)]
    disk: Option<Leaf>,
}

#[derive(GracefulShutdown)]
enum Either {
    Live(#[shutdown(timeout = "3s")] Leaf, #[shutdown] Leaf),
    #[allow(dead_code)] // The test only shows its plan.
    Gone,
}

fn storage() -> Storage {
    Storage {
        writer: Leaf,
        disk: Some(Leaf),
    }
}

fn server() -> Server {
    Server {
        token: Leaf,
        storage: storage(),
        r#type: Leaf,
        cache: Leaf,
        either: Either::Live(Leaf, Leaf),
        hidden: storage(),
        grace: Duration::from_secs(7),
        state: ShutdownState::new(),
    }
}

/// Calls `show` with a server that is disarmed, so that its drop logs nothing.
fn disarmed(show: impl FnOnce(&Server) -> String) -> String {
    let mut server = server();
    server.state.disarm();
    show(&server)
}

#[test]
fn a_plan_is_displayed_as_a_table_with_indented_nested_steps() {
    assert_eq!(
        format!("{}\n", Server::PLAN),
        "\
proxy: at most 25s
  order  step      waits for      budget        how
  -1     token                    what is left  best effort
  10     storage   token          8s
    5      writer                 1.5s
    100    disk    writer         250ms         take, with Leaf::end
  10     type      storage        5s            with Leaf::flush, required
  20     cache     type           at run time   with a closure
  20     either    type           4s
           Live                   4s
      0      0                    3s
      1      1     0              what is left
           Gone                                 nothing to clean
  20     hidden    cache, either  what is left
"
    );
}

#[test]
fn a_resolved_plan_has_the_values_timeouts_and_live_variant() {
    assert_eq!(
        format!("{}\n", disarmed(|server| server.plan().to_string())),
        "\
proxy: at most 25s (main: up to 3s)
  order  step      waits for      budget        how
  -1     token                    what is left  best effort
  10     storage   token          8s
    5      writer                 1.5s
    100    disk    writer         250ms         take, with Leaf::end
  10     type      storage        5s            with Leaf::flush, required
  20     cache     type           7s            with a closure
  20     either    type           4s
    0      0                      3s
    1      1       0              what is left
  20     hidden    cache, either  what is left
"
    );
}

#[test]
fn a_plan_without_steps_is_displayed_in_one_line() {
    assert_eq!(
        lifecycle_runtime::Plan::leaf().to_string(),
        "plan: nothing to clean"
    );
}

#[test]
fn a_plan_has_a_flowchart() {
    assert_eq!(
        Server::PLAN.to_mermaid(),
        "\
flowchart LR
    s0[\"token\"]
    subgraph s1[\"storage<br/>8s\"]
        s1_0[\"writer<br/>1.5s\"]
        s1_1[\"disk<br/>250ms\"]
        s1_0 --> s1_1
    end
    s2[\"type<br/>5s\"]
    s3[\"cache\"]
    subgraph s4[\"either<br/>4s\"]
        subgraph s4_0[\"Live<br/>4s\"]
            s4_0_0[\"0<br/>3s\"]
            s4_0_1[\"1\"]
            s4_0_0 --> s4_0_1
        end
        s4_1[\"Gone\"]
    end
    s5[\"hidden\"]
    s0 --> s1
    s1 --> s2
    s2 --> s3
    s2 --> s4
    s3 --> s5
    s4 --> s5
"
    );
}

#[test]
fn a_resolved_plan_has_a_flowchart() {
    assert_eq!(
        disarmed(|server| server.plan().to_mermaid()),
        "\
flowchart LR
    s0[\"token\"]
    subgraph s1[\"storage<br/>8s\"]
        s1_0[\"writer<br/>1.5s\"]
        s1_1[\"disk<br/>250ms\"]
        s1_0 --> s1_1
    end
    s2[\"type<br/>5s\"]
    s3[\"cache<br/>7s\"]
    subgraph s4[\"either<br/>4s\"]
        s4_0[\"0<br/>3s\"]
        s4_1[\"1\"]
        s4_0 --> s4_1
    end
    s5[\"hidden\"]
    s0 --> s1
    s1 --> s2
    s2 --> s3
    s2 --> s4
    s3 --> s5
    s4 --> s5
"
    );
}
