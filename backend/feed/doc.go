// Package feed holds the connections on which all subscribers of an event loop and user share their
// subscriptions. A message comes once from the node and is delivered to everybody who has joined
// its channel.
//
//	Set.Subscribe ─▶ node: SUBSCRIBE ─▶ confirmation ─▶ Subscriber.Subscribed ─▶ Channel.Join
//	node: message ─▶ Feed.take ─▶ Channel ─▶ every Listener, in slices
//
// A feed belongs to one loop. A feed that is lost is replaced, by one to another node if need be,
// and its channels are subscribed to again. The package refuses to know what a client is.
package feed
