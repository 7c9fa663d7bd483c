package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"syscall"
	"unsafe"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
)

// readSwitch stops gnet from reading a client's socket, and has it read again. gnet has no call for
// that. The switch tells the poller itself, which hangs off fields that gnet does not export; this
// file alone knows of them. Places are offsets in gnet's structs.
//
// It is found once, before the first client comes, and then only read.
type readSwitch struct {
	attachment uintptr // of netpoll.PollAttachment in gnet's connection
	loop       uintptr // of the pointer to gnet's loop in the connection
	poller     uintptr // of the pointer to the poller in the loop
	epoll      uintptr // of the epoll descriptor in the poller
	byPointer  bool    // gnet was built with poll_opt: epoll's event carries the attachment's address, else the descriptor
}

// errNoReadSwitch is returned when gnet's fields are not what they were.
var errNoReadSwitch = errors.New("gnet keeps its poller elsewhere")

// findReadSwitch looks for the fields in a connection that gnet reads now, and tries them.
func findReadSwitch(c gnet.Conn) (*readSwitch, error) {
	conn := reflect.TypeOf(c)
	attachment, err := fieldOf(conn, "pollAttachment", reflect.TypeFor[netpoll.PollAttachment]())
	if err != nil {
		return nil, err
	}
	loop, err := fieldOf(conn, "loop", nil)
	if err != nil {
		return nil, err
	}
	poller, err := fieldOf(loop.Type, "poller", reflect.TypeFor[*netpoll.Poller]())
	if err != nil {
		return nil, err
	}
	epoll, err := fieldOf(poller.Type, "fd", reflect.TypeFor[int]())
	if err != nil {
		return nil, err
	}
	polling, found := poller.Type.MethodByName("Polling")
	if !found {
		return nil, fmt.Errorf("%w: %v has no Polling", errNoReadSwitch, poller.Type)
	}
	w := &readSwitch{
		attachment: attachment.Offset, loop: loop.Offset, poller: poller.Offset, epoll: epoll.Offset,
		byPointer: polling.Type.NumIn() == 1, // else it takes what finds a connection by its descriptor
	}
	for _, events := range []uint32{0, netpoll.ReadEvents} {
		if err := w.arm(c, events); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoReadSwitch, err)
		}
	}
	return w, nil
}

// fieldOf finds a field of the struct that a pointer type points to. A nil type stands for any
// pointer to a struct.
func fieldOf(pointer reflect.Type, name string, is reflect.Type) (f reflect.StructField, err error) {
	if pointer == nil || pointer.Kind() != reflect.Pointer || pointer.Elem().Kind() != reflect.Struct {
		return f, fmt.Errorf("%w: %v is no pointer to a struct", errNoReadSwitch, pointer)
	}
	f, found := pointer.Elem().FieldByName(name)
	if !found || is != nil && f.Type != is || is == nil && f.Type.Kind() != reflect.Pointer {
		return f, fmt.Errorf("%w: %v has no such %s", errNoReadSwitch, pointer, name)
	}
	return f, nil
}

// What a socket's poller is told to look for. A broken connection is always reported.
const (
	lookNowhere = 0
	lookHangUp  = syscall.EPOLLRDHUP // the peer has closed its sending side: gnet closes the socket
	lookWrite   = netpoll.WriteEvents
	lookRead    = netpoll.ReadEvents
)

// arm sets what the poller looks for on the socket. It runs on the socket's loop. gnet sets reading
// again by itself when output begins to wait for the socket, and when none waits any more.
func (w *readSwitch) arm(c gnet.Conn, events uint32) error {
	conn := reflect.ValueOf(c).UnsafePointer()
	attachment := (*netpoll.PollAttachment)(unsafe.Add(conn, w.attachment))
	loop := *(*unsafe.Pointer)(unsafe.Add(conn, w.loop))
	poller := *(*unsafe.Pointer)(unsafe.Add(loop, w.poller))
	epoll := *(*int)(unsafe.Add(poller, w.epoll))
	event := syscall.EpollEvent{Events: events, Fd: int32(attachment.FD)}
	if w.byPointer {
		p := uintptr(unsafe.Pointer(attachment))
		*(*[unsafe.Sizeof(p)]byte)(unsafe.Pointer(&event.Fd)) = *(*[unsafe.Sizeof(p)]byte)(unsafe.Pointer(&p))
	}
	return os.NewSyscallError("epoll_ctl mod", syscall.EpollCtl(epoll, syscall.EPOLL_CTL_MOD, attachment.FD, &event))
}
