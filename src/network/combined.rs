//! Behaviours side by side, as one.
//!
//! libp2p's derive nests what it puts together: of eleven handlers' events the first is `Left(Left(Left(…)))`, and each of the ten layers
//! has code of its own to choose, wrap, unwrap and drop, for events, streams, upgrades and their errors. That was a twentieth of what a
//! page loads. [`combined!`] lays them side by side instead: one enum a kind, with a variant for each behaviour, and one choice.
//! What is called and in which order is what the derive does, and `ConnectionHandler::select`: all in the order of the fields; one that has something to
//! say goes before those after it, and on an incoming stream the protocols of the first are preferred.

/// Declares a struct of behaviours, each with the name of its variant, as a behaviour; and `BehaviourEvent`, the events of all.
macro_rules! combined {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Behaviour:ident {
            $($member:ident / $Member:ident: $Type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $Behaviour {
            $($visibility $member: $Type,)+
        }

        /// What a behaviour tells the swarm's owner.
        #[allow(clippy::large_enum_variant, reason = "as it comes, it goes on")]
        $visibility enum BehaviourEvent {
            $($Member(<$Type as NetworkBehaviour>::ToSwarm),)+
        }

        impl NetworkBehaviour for $Behaviour {
            type ConnectionHandler = handlers::Handlers;
            type ToSwarm = BehaviourEvent;

            fn handle_pending_inbound_connection(
                &mut self,
                connection: ConnectionId,
                local: &Multiaddr,
                remote: &Multiaddr,
            ) -> Result<(), ConnectionDenied> {
                $(self.$member.handle_pending_inbound_connection(connection, local, remote)?;)+
                Ok(())
            }

            fn handle_established_inbound_connection(
                &mut self,
                connection: ConnectionId,
                peer: PeerId,
                local: &Multiaddr,
                remote: &Multiaddr,
            ) -> Result<THandler<Self>, ConnectionDenied> {
                Ok(handlers::Handlers {
                    $($member: self.$member.handle_established_inbound_connection(connection, peer, local, remote)?,)+
                })
            }

            fn handle_pending_outbound_connection(
                &mut self,
                connection: ConnectionId,
                peer: Option<PeerId>,
                addresses: &[Multiaddr],
                role: Endpoint,
            ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
                let mut all = Vec::new();
                $(all.extend(self.$member.handle_pending_outbound_connection(connection, peer, addresses, role)?);)+
                Ok(all)
            }

            fn handle_established_outbound_connection(
                &mut self,
                connection: ConnectionId,
                peer: PeerId,
                address: &Multiaddr,
                role: Endpoint,
                port: PortUse,
            ) -> Result<THandler<Self>, ConnectionDenied> {
                Ok(handlers::Handlers {
                    $($member: self.$member.handle_established_outbound_connection(connection, peer, address, role, port)?,)+
                })
            }

            fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
                $(self.$member.on_swarm_event(event);)+
            }

            fn on_connection_handler_event(
                &mut self,
                peer: PeerId,
                connection: ConnectionId,
                event: THandlerOutEvent<Self>,
            ) {
                match event {
                    $(handlers::Told::$Member(event) => {
                        self.$member.on_connection_handler_event(peer, connection, event);
                    })+
                }
            }

            fn poll(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
                $(if let Poll::Ready(action) = self.$member.poll(cx) {
                    let action = action.map_out(BehaviourEvent::$Member);
                    return Poll::Ready(action.map_in(handlers::Order::$Member));
                })+
                Poll::Pending
            }
        }

        /// The handlers of one connection.
        #[allow(clippy::large_enum_variant, reason = "as it comes, it goes on")]
        mod handlers {
            use std::task::{Context, Poll, ready};

            use futures::future::{BoxFuture, FutureExt, TryFutureExt};
            use libp2p::{
                core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
                swarm::{
                    ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol,
                    handler::{
                        AddressChange, ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound,
                        FullyNegotiatedOutbound, InboundUpgradeSend, ListenUpgradeError,
                        OutboundUpgradeSend, UpgradeInfoSend,
                    },
                },
            };

            use super::*;

            type In<B> = <THandler<B> as ConnectionHandler>::InboundProtocol;
            type InInfo<B> = <THandler<B> as ConnectionHandler>::InboundOpenInfo;
            type Out<B> = <THandler<B> as ConnectionHandler>::OutboundProtocol;
            type OutInfo<B> = <THandler<B> as ConnectionHandler>::OutboundOpenInfo;

            /// See the macro's module.
            $visibility struct Handlers {
                $(pub(super) $member: THandler<$Type>,)+
            }

            /// From a behaviour to its handler.
            #[derive(Debug)]
            $visibility enum Order {
                $($Member(THandlerInEvent<$Type>),)+
            }

            /// From a handler to its behaviour.
            #[derive(Debug)]
            $visibility enum Told {
                $($Member(THandlerOutEvent<$Type>),)+
            }

            /// What is done with a peer's stream: by whom, its protocol says. What a handler wants back with the stream goes along.
            $visibility struct Accepting {
                $($member: (In<$Type>, InInfo<$Type>),)+
            }

            /// A protocol on which the peer may open a stream.
            #[derive(Clone)]
            $visibility enum Name {
                $($Member(<In<$Type> as UpgradeInfoSend>::Info),)+
            }

            /// A peer's stream, when it is ready.
            $visibility enum Accepted {
                $($Member(<In<$Type> as InboundUpgradeSend>::Output, InInfo<$Type>),)+
            }

            /// Why a peer's stream came to nothing.
            $visibility enum Unaccepted {
                $($Member(<In<$Type> as InboundUpgradeSend>::Error, InInfo<$Type>),)+
            }

            /// What is done with a stream of ours.
            $visibility enum Opening {
                $($Member(Out<$Type>),)+
            }

            /// A protocol on which we open a stream.
            #[derive(Clone)]
            $visibility enum OurName {
                $($Member(<Out<$Type> as UpgradeInfoSend>::Info),)+
            }

            /// A stream of ours, when it is ready.
            $visibility enum Opened {
                $($Member(<Out<$Type> as OutboundUpgradeSend>::Output),)+
            }

            /// Why a stream of ours came to nothing.
            $visibility enum Unopened {
                $($Member(<Out<$Type> as OutboundUpgradeSend>::Error),)+
            }

            /// What a handler wants back with a stream of ours.
            $visibility enum Purpose {
                $($Member(OutInfo<$Type>),)+
            }

            impl AsRef<str> for Name {
                fn as_ref(&self) -> &str {
                    match self {
                        $(Self::$Member(name) => AsRef::<str>::as_ref(name),)+
                    }
                }
            }

            impl AsRef<str> for OurName {
                fn as_ref(&self) -> &str {
                    match self {
                        $(Self::$Member(name) => AsRef::<str>::as_ref(name),)+
                    }
                }
            }

            impl UpgradeInfo for Accepting {
                type Info = Name;
                type InfoIter = Vec<Name>;

                fn protocol_info(&self) -> Self::InfoIter {
                    let mut names = Vec::new();
                    $({
                        let own = UpgradeInfoSend::protocol_info(&self.$member.0);
                        names.extend(Iterator::map(own, Name::$Member));
                    })+
                    names
                }
            }

            impl InboundUpgrade<Stream> for Accepting {
                type Output = Accepted;
                type Error = Unaccepted;
                type Future = BoxFuture<'static, Result<Accepted, Unaccepted>>;

                fn upgrade_inbound(self, stream: Stream, name: Name) -> Self::Future {
                    match name {
                        $(Name::$Member(name) => {
                            let (upgrade, info) = self.$member;
                            InboundUpgradeSend::upgrade_inbound(upgrade, stream, name)
                                .map(move |done| match done {
                                    Ok(stream) => Ok(Accepted::$Member(stream, info)),
                                    Err(error) => Err(Unaccepted::$Member(error, info)),
                                })
                                .boxed()
                        })+
                    }
                }
            }

            impl UpgradeInfo for Opening {
                type Info = OurName;
                type InfoIter = Vec<OurName>;

                fn protocol_info(&self) -> Self::InfoIter {
                    match self {
                        $(Self::$Member(upgrade) => {
                            let names = UpgradeInfoSend::protocol_info(upgrade);
                            Iterator::map(names, OurName::$Member).collect()
                        })+
                    }
                }
            }

            impl OutboundUpgrade<Stream> for Opening {
                type Output = Opened;
                type Error = Unopened;
                type Future = BoxFuture<'static, Result<Opened, Unopened>>;

                fn upgrade_outbound(self, stream: Stream, name: OurName) -> Self::Future {
                    match (self, name) {
                        $((Self::$Member(upgrade), OurName::$Member(name)) => OutboundUpgradeSend::upgrade_outbound(upgrade, stream, name)
                            .map_ok(Opened::$Member)
                            .map_err(Unopened::$Member)
                            .boxed(),)+
                        _ => unreachable!("a stream is opened on a name that its upgrade gave"),
                    }
                }
            }

            impl ConnectionHandler for Handlers {
                type FromBehaviour = Order;
                type ToBehaviour = Told;
                type InboundProtocol = Accepting;
                type OutboundProtocol = Opening;
                type InboundOpenInfo = ();
                type OutboundOpenInfo = Purpose;

                fn listen_protocol(&self) -> SubstreamProtocol<Accepting> {
                    $(let $member = self.$member.listen_protocol();)+
                    let mut timeout = Duration::ZERO;
                    $(timeout = timeout.max(*$member.timeout());)+
                    let accepting = Accepting { $($member: $member.into_upgrade(),)+ };
                    SubstreamProtocol::new(accepting, ()).with_timeout(timeout)
                }

                fn connection_keep_alive(&self) -> bool {
                    // All are asked.
                    $(let $member = self.$member.connection_keep_alive();)+
                    false $(|| $member)+
                }

                fn on_behaviour_event(&mut self, order: Order) {
                    match order {
                        $(Order::$Member(order) => self.$member.on_behaviour_event(order),)+
                    }
                }

                fn poll(
                    &mut self,
                    cx: &mut Context<'_>,
                ) -> Poll<ConnectionHandlerEvent<Opening, Purpose, Told>> {
                    $(if let Poll::Ready(event) = self.$member.poll(cx) {
                        let event = event.map_custom(Told::$Member).map_protocol(Opening::$Member);
                        return Poll::Ready(event.map_outbound_open_info(Purpose::$Member));
                    })+
                    Poll::Pending
                }

                fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Told>> {
                    $(if let Some(told) = ready!(self.$member.poll_close(cx)) {
                        return Poll::Ready(Some(Told::$Member(told)));
                    })+
                    Poll::Ready(None)
                }

                fn on_connection_event(
                    &mut self,
                    event: ConnectionEvent<'_, Accepting, Opening, (), Purpose>,
                ) {
                    match event {
                        ConnectionEvent::FullyNegotiatedInbound(accepted) => match accepted.protocol {
                            $(Accepted::$Member(protocol, info) => {
                                let accepted = FullyNegotiatedInbound { protocol, info };
                                let event = ConnectionEvent::FullyNegotiatedInbound(accepted);
                                self.$member.on_connection_event(event);
                            })+
                        },
                        ConnectionEvent::FullyNegotiatedOutbound(opened) => {
                            match (opened.protocol, opened.info) {
                                $((Opened::$Member(protocol), Purpose::$Member(info)) => {
                                    let opened = FullyNegotiatedOutbound { protocol, info };
                                    let event = ConnectionEvent::FullyNegotiatedOutbound(opened);
                                    self.$member.on_connection_event(event);
                                })+
                                _ => unreachable!("a stream is for who asked for it"),
                            }
                        }
                        ConnectionEvent::ListenUpgradeError(failed) => match failed.error {
                            $(Unaccepted::$Member(error, info) => {
                                let failed = ListenUpgradeError { info, error };
                                let event = ConnectionEvent::ListenUpgradeError(failed);
                                self.$member.on_connection_event(event);
                            })+
                        },
                        ConnectionEvent::DialUpgradeError(failed) => match failed.info {
                            $(Purpose::$Member(info) => {
                                let error = failed.error.map_upgrade_err(|error| match error {
                                    Unopened::$Member(error) => error,
                                    _ => unreachable!("an error is for who asked for the stream"),
                                });
                                let failed = DialUpgradeError { info, error };
                                let event = ConnectionEvent::DialUpgradeError(failed);
                                self.$member.on_connection_event(event);
                            })+
                        },
                        ConnectionEvent::AddressChange(change) => {
                            $({
                                let change = AddressChange { new_address: change.new_address };
                                self.$member.on_connection_event(ConnectionEvent::AddressChange(change));
                            })+
                        }
                        ConnectionEvent::LocalProtocolsChange(change) => {
                            $(self.$member.on_connection_event(ConnectionEvent::LocalProtocolsChange(change.clone()));)+
                        }
                        ConnectionEvent::RemoteProtocolsChange(change) => {
                            $(self.$member.on_connection_event(ConnectionEvent::RemoteProtocolsChange(change.clone()));)+
                        }
                        _ => {}
                    }
                }
            }
        }
    };
}

pub(super) use combined;
