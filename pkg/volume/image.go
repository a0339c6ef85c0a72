package volume

import "context"

// image is the content of an image (KEP-4639). The runtime mounts it by name with
// the container: there is nothing to set up on the node's disk.
type image struct{}

func (image) setUp(context.Context) error { return nil }

func (image) path() Path { return Path{ReadOnly: true} }
