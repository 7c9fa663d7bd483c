package telemetry

// Reason is why a client's connection was closed. String returns the label in the metrics.
type Reason uint8

const (
	NotClosed Reason = iota
	ClientClosed
	ConnectionError
	Quit
	Killed // CLIENT KILL
	Shutdown
	IdleTimeout // timeout
	ProtocolError
	HTTPRequest
	QueryBufferLimit
	OutputHardLimit
	OutputSoftLimit
	AuthTimeout         // auth-timeout
	ClientMemoryLimit   // maxmemory-clients
	ReplyCutOff         // a reply was lost after the client had been sent its beginning
	SubscriptionRefused // the user may not listen any more
	SubscriptionLost    // the client's own connection for subscriptions
	ReplicationLost     // the connection to the node that a replica follows
	ReplicaCommand      // a replica sent a command other than REPLCONF
	TrackingRefused     // a node would not track
	TrackingLost        // a connection on which a node tracked
	TrackingMoved       // keys that are tracked have another node
	UserRefused         // no password of the client's user is accepted any more
	TLSError            // what the client sent is no TLS, or is TLS where none is spoken
	ProxyHeader         // of one from whom none is taken
	numReasons
)

var reasonNames = [numReasons]string{
	NotClosed: "", ClientClosed: "client closed", ConnectionError: "connection error", Quit: "quit", Killed: "CLIENT KILL",
	Shutdown: "shutdown", IdleTimeout: "idle timeout", ProtocolError: "protocol error", HTTPRequest: "HTTP request",
	QueryBufferLimit: "query buffer limit", OutputHardLimit: "output buffer hard limit", OutputSoftLimit: "output buffer soft limit",
	AuthTimeout: "not authenticated in time", ClientMemoryLimit: "memory of all clients", ReplyCutOff: "reply cut off", SubscriptionRefused: "subscription refused", SubscriptionLost: "subscription connection lost",
	ReplicationLost: "replication connection lost", ReplicaCommand: "command of a replica", TrackingRefused: "tracking refused", TrackingLost: "tracking connection lost", TrackingMoved: "what it tracked has moved", UserRefused: "user refused", TLSError: "TLS error", ProxyHeader: "PROXY header",
}

func (r Reason) String() string { return reasonNames[r] }

// Limit is a limit that clients run into. String returns the option that sets the limit, which is
// the label in the metrics.
type Limit uint8

const (
	LimitPipeline Limit = iota
	LimitQueryBuffer
	LimitOutputBuffer
	LimitTimeout
	LimitTransactionCommands
	LimitTransactionBytes
	LimitAuthTimeout
	LimitClientMemory
	numLimits
)

var limitNames = [numLimits]string{
	LimitPipeline: "client-pipeline-limit", LimitQueryBuffer: "client-query-buffer-limit",
	LimitOutputBuffer: "client-output-buffer-limit", LimitTimeout: "timeout",
	LimitTransactionCommands: "transaction-max-commands", LimitTransactionBytes: "transaction-max-bytes",
	LimitAuthTimeout: "auth-timeout", LimitClientMemory: "maxmemory-clients",
}

func (l Limit) String() string { return limitNames[l] }

// Revocation is why the lease of a WATCH was taken back. String returns the label in the metrics.
type Revocation uint8

const (
	RevokedForWaiters Revocation = iota // others wait for a lease
	RevokedIdle                         // watch-max-idle
	RevokedMoved                        // the backend is another one
	numRevocations
)

var revocationNames = [numRevocations]string{RevokedForWaiters: "waiters", RevokedIdle: "watch-max-idle", RevokedMoved: "backend changed"}

func (r Revocation) String() string { return revocationNames[r] }
