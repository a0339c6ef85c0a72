package dockershim

// streamChunk is how many entries of a streamed list go into one message, so that no list is
// too long for a message (KEP CRIListStreaming).
const streamChunk = 100

// inChunks sends a list in pieces. For an empty list it sends nothing.
func inChunks[T any](all []T, send func([]T) error) error {
	for len(all) > 0 {
		n := min(streamChunk, len(all))
		if err := send(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
