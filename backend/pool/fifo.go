package pool

// fifo is a queue that an element can leave from the middle in O(1). The zero value is empty. It has
// no lock.
type fifo[T any] struct {
	head, tail *fifoNode[T]
	len        int
}

type fifoNode[T any] struct {
	value      T
	prev, next *fifoNode[T]
	queued     bool
}

// push appends v and returns the node for remove.
func (q *fifo[T]) push(v T) *fifoNode[T] {
	n := &fifoNode[T]{value: v, prev: q.tail, queued: true}
	if q.tail == nil {
		q.head = n
	} else {
		q.tail.next = n
	}
	q.tail = n
	q.len++
	return n
}

// front returns the oldest value. ok is false if the queue is empty.
func (q *fifo[T]) front() (v T, ok bool) {
	if q.head == nil {
		return v, false
	}
	return q.head.value, true
}

// remove takes n out, wherever it is. It returns false if n has left already.
func (q *fifo[T]) remove(n *fifoNode[T]) bool {
	if !n.queued {
		return false
	}
	if n.prev == nil {
		q.head = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		q.tail = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next, n.queued = nil, nil, false
	q.len--
	return true
}
