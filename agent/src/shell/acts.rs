//! What an output means to the adapters.

use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::io::{Input, NovaAnswer, NovaRead, Output, ProposeError};
use rekindle_coordinator::order::{PowerOffOrder, PowerOnOrder};
use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest};
use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, NovaError, OrderError};
use rekindle_proto::id::{CallId, HostName, MemberId};
use rekindle_proto::message::{Reply, Request};
use tokio::task::AbortHandle;

use super::{Shell, answer};
use crate::clock;
use crate::nova::Nova;
use crate::telemetry::log_event;

/// How long the leader may take to answer an operator's request carried to it.
const RELAY_WITHIN: Duration = Duration::from_secs(30);

/// How long the local hypervisor may take to say which guests run.
const CHECK_GUESTS_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn act(shell: &mut Shell, output: Output) {
    match output {
        Output::Datagram { to, member, path, bytes } => shell.transport.send_datagram(to, member, path, bytes),
        Output::Message { to, member, path, message } => shell.transport.send_message(to, member, path, message),
        Output::Dial { seed } => shell.transport.dial(seed),
        Output::PersistIncarnation(incarnation) => {
            if let Err(error) = shell.state.persist_incarnation(incarnation) {
                tracing::error!(error = &error as &dyn std::error::Error, %incarnation, "the life number was not written");
            }
            shell.transport.set_incarnation(incarnation);
        }
        Output::Propose { call, entry } => match &shell.ledger {
            Some(ledger) => ledger.propose(call, entry),
            None => shell.later(Input::Proposed { call, result: Err(ProposeError::NotLeader) }),
        },
        Output::CheckLinearizable { call } => match &shell.ledger {
            Some(ledger) => ledger.check(call),
            None => shell.later(Input::Linearizable {
                call,
                result: Err("this member does not vote".into()),
                finished: clock::moment(),
            }),
        },
        Output::ReadDevice { call, host, device, guid, within } => {
            shell.read_device(call, host, device, guid, within);
        }
        Output::PowerOff(order) => shell.power_off(order),
        Output::PowerOn(order) => shell.power_on(order),
        Output::Nova { call, request } => {
            let is_long = matches!(request, NovaRead::Capacity(_));
            let task = shell.with_nova(call, move |nova| async move { nova.read(request).await });
            if is_long {
                // At most a few: the coordinator bounds them, and each ends in time.
                shell.capacity_readings.retain(|_, task| !task.is_finished());
                shell.capacity_readings.insert(call, task);
            }
        }
        Output::StopCapacity { call } => {
            if let Some(task) = shell.capacity_readings.remove(&call) {
                task.abort();
                tracing::info!("a regular reading of capacity is stopped: a host is silent or being recovered");
            }
        }
        Output::ForceDown(order) => {
            shell.with_nova(order.call(), move |nova| async move { nova.force_down(&order).await });
        }
        Output::SetService(order) => {
            shell.with_nova(order.call(), move |nova| async move { nova.set_service(&order).await });
        }
        Output::SetAggregate(order) => {
            let (host, aggregate, change) = (order.host(), order.aggregate(), order.change());
            tracing::info!(target: "rekindle::event::aggregate", %host, %aggregate, ?change, "a membership is changed");
            shell.with_nova(order.call(), move |nova| async move { nova.set_aggregate(&order).await });
        }
        Output::Evacuate(order) => {
            shell.with_nova(order.call(), move |nova| async move { nova.evacuate(&order).await });
        }
        Output::GuestPower(order) => {
            shell.with_nova(order.call(), move |nova| async move { nova.guest_power(&order).await });
        }
        Output::ServerAct(order) => {
            let (server, act) = (order.server(), order.act());
            tracing::info!(target: "rekindle::event::server", %server, ?act, incident = order.incident().0, "an act on its state is sent");
            shell.with_nova(order.call(), move |nova| async move { nova.server_act(&order).await });
        }
        Output::RestartProcess(order) => {
            let (inputs, processes) = (shell.inputs.clone(), shell.processes.clone());
            shell.beside.spawn(async move {
                let result = processes.restart(&order).await;
                answer(&inputs, Input::ProcessRestarted { call: order.call(), result }).await;
            });
        }
        Output::ListGuests => shell.hypervisor.list_now(),
        Output::CheckGuests { call, servers } => {
            let running = shell.hypervisor.running_among(&servers, CHECK_GUESTS_WITHIN);
            let inputs = shell.inputs.clone();
            shell.beside.spawn(async move {
                let running = running.await;
                answer(&inputs, Input::GuestsChecked { call, running }).await;
            });
        }
        Output::LookForLife { call, host: _, address, ports, within } => {
            let inputs = shell.inputs.clone();
            tokio::spawn(async move {
                let signs = crate::life::look(address, &ports, within).await;
                answer(&inputs, Input::LifeFound { call, signs }).await;
            });
        }
        Output::DestroyGuest(order) => {
            let (call, server) = (order.call(), order.server());
            tracing::warn!(target: "rekindle::event::server", %server, incident = order.incident().0, "a guest that runs elsewhere is destroyed here");
            let (act, inputs) = (shell.hypervisor.destroy(&order), shell.inputs.clone());
            shell.beside.spawn(async move {
                let result = act.await.map_err(|error| error.to_string().into());
                answer(&inputs, Input::GuestDestroyed { call, server, result }).await;
            });
        }
        Output::RunHook(order) => {
            let (inputs, hooks) = (shell.inputs.clone(), Arc::clone(&shell.hooks));
            let document = order.document();
            tracing::info!(target: "rekindle::event::hook", on = %document.on, host = %document.host, incident = document.incident.0, "a hook is run");
            shell.beside.spawn(async move {
                let result = crate::hook::run(&hooks, &order).await;
                if let Err(why) = &result {
                    tracing::warn!(target: "rekindle::event::hook", %why, incident = order.document().incident.0, "a hook failed");
                }
                answer(&inputs, Input::HookDone { call: order.call(), result }).await;
            });
        }
        Output::Notice(notification) => {
            if let Some(events) = &shell.events {
                events.tell(&notification);
            }
        }
        Output::Post(order) => {
            let refused = match &shell.webhook {
                Some(webhook) => webhook.post(order).err().map(|order| (order, "too many wait")),
                None => Some((order, "no webhook is configured here")),
            };
            if let Some((order, why)) = refused {
                shell.later(Input::Posted { call: order.call(), result: Err(why.into()) });
            }
        }
        Output::StopPosts => {
            if let Some(webhook) = &shell.webhook {
                webhook.stop();
            }
        }
        Output::Answer { call, reply } => {
            if let Some(reply) = shell.queries.answer(call, *reply) {
                shell.show(&reply);
            }
        }
        Output::Relay { call, to, member, request } => shell.relay(call, to, member, &request),
        Output::Candidacy(stands) => {
            if let Some(ledger) = &shell.ledger {
                ledger.stand(stands);
            }
        }
        Output::Watchdog(order) => shell.watchdog_order(order),
        Output::ChangeVoters(order) => match &shell.ledger {
            Some(ledger) => ledger.change_voters(&order),
            None => shell
                .later(Input::VotersChanged { call: order.call(), result: Err("this member keeps no ledger".into()) }),
        },
        Output::Generation { generation, order } => {
            if let Err(error) = shell.state.persist_generation(&order) {
                tracing::error!(error = &error as &dyn std::error::Error, generation, "the generation was not written");
            }
            if let Some(ledger) = shell.ledger.clone() {
                tokio::spawn(async move { ledger.supersede(generation).await });
            }
        }
        Output::Event(event) => {
            shell.metrics.event(&event);
            log_event(&event);
        }
    }
}

impl Shell {
    /// An answer that is there at once; it still takes its turn.
    pub(super) fn later(&self, input: Input) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move { answer(&inputs, input).await });
    }

    fn read_device(&self, call: CallId, host: HostName, device: DeviceName, guid: bool, within: Duration) {
        let (inputs, bmc, metrics) = (self.inputs.clone(), self.bmc.clone(), Arc::clone(&self.metrics));
        self.beside.spawn(async move {
            let reading = match bmc {
                Some(bmc) => bmc.read(&host, &device, guid, within).await,
                None => unusable(),
            };
            metrics.device_read(&reading);
            let finished = clock::moment();
            answer(&inputs, Input::DeviceRead { call, reading, finished }).await;
        });
    }

    fn power_off(&self, order: PowerOffOrder) {
        let (inputs, bmc, metrics) = (self.inputs.clone(), self.bmc.clone(), Arc::clone(&self.metrics));
        let within = self.device_timeout;
        let (call, host, device) = (order.call(), order.host().clone(), order.device().clone());
        tracing::warn!(target: "rekindle::event::fence", %host, %device, incident = order.incident().0, attempt = order.attempt(), "power off is ordered");
        self.beside.spawn(async move {
            let result = match bmc {
                Some(bmc) => bmc.power_off(&order, within).await,
                None => Err(OrderError::NotSent(DeviceError::Unusable("this member holds no fence devices".into()))),
            };
            metrics.power_off(result.as_ref().map(|_| ()));
            answer(&inputs, Input::PowerOffDone { call, result }).await;
        });
    }

    fn power_on(&self, order: PowerOnOrder) {
        let (inputs, bmc, within) = (self.inputs.clone(), self.bmc.clone(), self.device_timeout);
        let (call, host, device) = (order.call(), order.host().clone(), order.device().clone());
        tracing::warn!(target: "rekindle::event::fence", %host, %device, incident = order.incident().0, attempt = order.attempt(), "power on is ordered");
        self.beside.spawn(async move {
            let result = match bmc {
                Some(bmc) => bmc.power_on(&order, within).await,
                None => Err(OrderError::NotSent(DeviceError::Unusable("this member holds no fence devices".into()))),
            };
            answer(&inputs, Input::PowerOnDone { call, result }).await;
        });
    }

    fn with_nova<F>(&self, call: CallId, ask: impl FnOnce(Nova) -> F + Send + 'static) -> AbortHandle
    where
        F: Future<Output = Result<NovaAnswer, NovaError>> + Send,
    {
        let (inputs, nova, metrics) = (self.inputs.clone(), self.nova.clone(), Arc::clone(&self.metrics));
        let task = self.beside.spawn(async move {
            let result = match nova {
                Some(nova) => ask(nova).await,
                None => Err(NovaError::NotSent("no [nova] is configured here".into())),
            };
            if let Err(error) = &result {
                metrics.nova_error(error);
            }
            answer(&inputs, Input::Nova { call, result }).await;
        });
        task.abort_handle()
    }

    /// Carries an operator's request to the leader, and its answer back.
    fn relay(&mut self, call: CallId, to: std::net::SocketAddr, member: MemberId, request: &AdminRequest) {
        let Some(reply) = self.queries.take(call) else { return };
        let transport = self.transport.clone();
        let is_order = matches!(request, AdminRequest::Submit { .. });
        let is_long = matches!(request, AdminRequest::Capacity { .. });
        let within = if is_long { RELAY_WITHIN + rekindle_coordinator::CAPACITY_WITHIN } else { RELAY_WITHIN };
        let json = match serde_json::to_vec(request) {
            Ok(json) => json,
            Err(error) => {
                reply.give(failed(AdminErrorKind::Malformed, error.to_string()));
                return;
            }
        };
        tokio::spawn(async move {
            let answer = transport.request(to, member, Request::Admin(json), within).await;
            reply.give(match answer {
                Ok(Reply::Admin(json)) => serde_json::from_slice(&json)
                    .unwrap_or_else(|error| failed(AdminErrorKind::Malformed, format!("the leader's answer: {error}"))),
                Ok(Reply::Refused(why)) => failed(AdminErrorKind::NoLeader, why.to_string()),
                Ok(Reply::Raft(_)) => failed(AdminErrorKind::Malformed, "the leader's answer is not one".to_owned()),
                Err(error) if is_order => failed(
                    AdminErrorKind::Unknown,
                    format!(
                        "no answer from the leader ({error}); the order may yet be committed: look at `rekindle status`"
                    ),
                ),
                Err(error) => failed(AdminErrorKind::NoLeader, format!("no answer from the leader: {error}")),
            });
        });
    }

    /// Our own questions to ourselves: for metrics and for systemd.
    fn show(&self, reply: &AdminReply) {
        match reply {
            AdminReply::Status { status } => {
                self.metrics.status(status);
                crate::telemetry::systemd::status(&crate::cli::render::headline(status));
            }
            AdminReply::Members { members } => self.metrics.gossip(members),
            AdminReply::Incidents { .. }
            | AdminReply::Incident { .. }
            | AdminReply::Why { .. }
            | AdminReply::FenceTest { .. }
            | AdminReply::Gate { .. }
            | AdminReply::Brakes { .. }
            | AdminReply::Voters { .. }
            | AdminReply::Capacity { .. }
            | AdminReply::Segments { .. }
            | AdminReply::Committed { .. }
            | AdminReply::Error { .. } => {}
        }
    }

    pub(super) fn count_transport(&self) {
        let stats = self.transport.stats();
        tracing::debug!(?stats, "transport");
    }
}

fn failed(kind: AdminErrorKind, text: String) -> AdminReply {
    AdminReply::Error { kind, text: text.into() }
}

fn unusable() -> DeviceReading {
    DeviceReading { power: Err(DeviceError::Unusable("this member holds no fence devices".into())), guid: None }
}
