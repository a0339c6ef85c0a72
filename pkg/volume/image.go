package volume

import "context"

// image is the content of an image (KEP-4639). The runtime mounts it by name, with
// the container: on the node's disk there is nothing to set up.
type image struct{}

func (image) setUp(context.Context) error { return nil }

func (image) path() Path { return Path{ReadOnly: true} }
