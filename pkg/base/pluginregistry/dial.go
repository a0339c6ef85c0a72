package pluginregistry

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// Dial returns a connection to a plug-in's socket, which is made when it is needed. Whatever the path has in it
// is taken as it is: in a gRPC target of the form unix:// a '?' would end it, and a '%' make it the name of a host.
func Dial(socket string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if !filepath.IsAbs(socket) {
		return nil, fmt.Errorf("the socket %q is no absolute path", bounds.Quote(socket))
	}
	return grpc.NewClient("passthrough:///plug-in", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
	}, more...)...)
}
