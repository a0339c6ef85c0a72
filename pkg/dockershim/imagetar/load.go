package imagetar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// Loader is what Load needs of a Docker client; *client.Client is one.
type Loader interface {
	ImageLoad(ctx context.Context, input io.Reader, opts ...client.ImageLoadOption) (image.LoadResponse, error)
}

// Load streams the image into a Docker daemon and returns its ID as Docker's own image store
// computes it. (With containerd's store the ID is another: inspect the name there.) A name of
// another image is moved to this one. Loading the same image again, even concurrently, changes
// nothing.
func Load(ctx context.Context, docker Loader, img Image) (id string, err error) {
	r, w := io.Pipe()
	type result struct {
		id  string
		err error
	}
	written := make(chan result, 1)
	go func() {
		id, err := Write(w, img)
		w.CloseWithError(err)
		written <- result{id, err}
	}()
	loadErr := load(ctx, docker, r)
	if loadErr != nil {
		r.CloseWithError(errAbandoned)
	} else {
		// Docker may have answered before the archive's padding was sent.
		_, _ = io.Copy(io.Discard, r)
	}
	wrote := <-written
	switch {
	case wrote.err != nil && !errors.Is(wrote.err, errAbandoned):
		return "", wrote.err
	case loadErr != nil:
		return "", fmt.Errorf("load image %s: %w", img.Refs[0], loadErr)
	}
	return wrote.id, nil
}

var errAbandoned = errors.New("nobody reads the archive any more")

func load(ctx context.Context, docker Loader, archive io.Reader) error {
	resp, err := docker.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Docker answers 200 before it has read the archive; errors come in the body.
	for dec := json.NewDecoder(resp.Body); ; {
		var message struct {
			Error string `json:"error"`
		}
		switch err := dec.Decode(&message); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read Docker's answer: %w", err)
		case message.Error != "":
			return errors.New(message.Error)
		}
	}
}
