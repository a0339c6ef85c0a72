package dockershim

// streamChunk is how many entries one message of a streamed list carries, so that
// no list is too long for a message (KEP CRIListStreaming).
const streamChunk = 100

// inChunks sends a list in pieces; of an empty one, nothing.
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
