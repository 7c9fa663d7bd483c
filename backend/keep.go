package backend

// Keep returns the buffer emptied, for the next use, or nil if it has grown large.
func Keep(buf []byte) []byte {
	if cap(buf) > ChunkSize {
		return nil
	}
	return buf[:0]
}

// ChunkSize is how many bytes a chunk of a pipe's journal holds. One turn of a busy loop fills a
// few chunks. A larger request gets a chunk of its own.
const ChunkSize = 32 << 10
