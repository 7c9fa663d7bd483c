package backend

// Keep empties a buffer and lets go of one that has grown large.
func Keep(buf []byte) []byte {
	if cap(buf) > ChunkSize {
		return nil
	}
	return buf[:0]
}

// ChunkSize is what a chunk of a pipe's journal holds. One turn of a busy loop fills a few of them;
// a larger request gets a chunk of its own.
const ChunkSize = 32 << 10
