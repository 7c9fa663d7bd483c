// Package feed holds the connections on which all subscribers of an event loop and user share their
// subscriptions. A message comes once from the node and is delivered to every listener that has
// joined its channel.
//
//	Set.Subscribe ─▶ node: SUBSCRIBE ─▶ confirmation ─▶ Subscriber.Subscribed ─▶ Channel.Join
//	node: message ─▶ Feed.take ─▶ Channel ─▶ every Listener, in slices
//
// A feed belongs to one loop and is touched only there. When a feed is lost, its channels are
// subscribed to again, on a feed to another node if need be. The package refuses to know what a
// client is, and what a message says.
package feed
