//! What bounds an execution: its resumes, its conversation, its validators' starts.

use aegis_core::execution::{FailureReason, Input, Next, next};
use aegis_core::*;
use uuid::Uuid;

use crate::execution::{World, answer, blob, plan, refused, with_open_call};

/// What recovery records, when nothing came of the last daemon.
fn resume(world: &mut World, same_daemon: bool) {
    world.fact(Body::ExecutionResumed { crashes: world.state.crashes + 1, same_daemon });
}

#[test]
fn an_execution_that_comes_no_further_is_resumed_so_often_and_no_more() {
    let mut world = with_open_call();
    for _ in 0..limits::RESUMES_WITHOUT_PROGRESS_MAX {
        resume(&mut world, false);
        resume(&mut world, true);
        assert_eq!(next(&world.state), Next::CallTool((0, 0)));
    }
    resume(&mut world, false);
    assert_eq!(next(&world.state), Next::ResumesExhausted);
    world.record(Input::Fail { reason: FailureReason::ResumesExhausted, detail: blob() });
    assert_eq!(next(&world.state), Next::Done);

    let mut world = with_open_call();
    for index in 0..=limits::RESUMES_WITHOUT_PROGRESS_MAX {
        resume(&mut world, false);
        world.fact(Body::IterationFailed {
            iteration: world.state.iteration,
            reason: FailureReason::ModelFailed,
            detail: blob(),
        });
        assert_ne!(next(&world.state), Next::ResumesExhausted, "{index}: it got somewhere");
    }
}

#[test]
fn a_conversation_larger_than_a_request_may_be_ends_the_iteration() {
    let mut world = with_open_call();
    let large = BlobRef { bytes: limits::CONVERSATION_BYTES_MAX - 2, ..blob() };
    let tell = |world: &mut World, index: u32, result: BlobRef| {
        let body = Body::ActionDenied {
            action: ActionId::from_uuid(Uuid::nil()),
            iteration: 1,
            target: ActionKind::Tool,
            name: "t".into(),
            turn: index,
            index: 0,
            arguments: blob(),
            code: DenialCode::ToolNotAllowed,
            rule: "r".into(),
            result,
        };
        world.fact(body);
    };
    tell(&mut world, 0, large);
    assert_eq!(world.state.current.conversation_bytes(), limits::CONVERSATION_BYTES_MAX);
    assert_eq!(next(&world.state), Next::AskModel(1), "as much as fits is asked");
    let action = ActionId::from_uuid(Uuid::from_u128(8));
    let intent = Intent::Model { alias: "default".into(), turn: 1 };
    world.fact(Body::ActionIntended { action, iteration: 1, generation: 1, intent });
    world.fact(Body::ActionCompleted { action, outcome: answer(1), duration_ms: 1 });
    assert_eq!(next(&world.state), Next::CallTool((1, 0)), "what was asked for is still performed");
    tell(&mut world, 1, blob());
    assert_eq!(next(&world.state), Next::ConversationTooLong);
    assert!(FailureReason::ConversationTooLong.may_be_retried(), "the next iteration begins afresh");
}

#[test]
fn a_validators_command_is_started_once_until_its_verdict_or_a_crash() {
    let mut world = with_open_call();
    world.fact(Body::CancelRequested { forced: false });
    let started = Body::ValidatorStarted { iteration: 1, index: 0 };
    assert!(refused(&world, started.clone()), "nothing has answered, and a cancel was requested");
    let mut world = World::new(plan(1, 1), vec![1; 1_000]);
    while !matches!(next(&world.state), Next::Validate(_)) {
        world.step();
    }
    assert!(refused(&world, Body::ValidatorUnknown { iteration: 1, index: 0 }));
    world.fact(started.clone());
    assert!(refused(&world, started.clone()), "it runs already");
    world.fact(Body::ValidatorUnknown { iteration: 1, index: 0 });
    assert!(!refused(&world, started), "what only looks is run again");
}
