package dockershim

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/imageservice"
)

func TestAPanicEndsItsCallAlone(t *testing.T) {
	socket := "unix://" + filepath.Join(t.TempDir(), "s")
	l, err := listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	server := (&Server{services: services{imageService: &imageservice.Service{}}}).grpc() // without its parts: whatever asks one panics
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := cri.NewRuntimeServiceClient(conn)
	for range 2 {
		_, err := client.ListContainers(t.Context(), &cri.ListContainersRequest{})
		if status.Code(err) == codes.OK || !strings.Contains(err.Error(), "panic") {
			t.Errorf("a call that panics: %v", err)
		}
		stream, err := client.StreamContainers(t.Context(), &cri.StreamContainersRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if !strings.Contains(status.Convert(err).Message(), "panic") {
			t.Errorf("a stream that panics: %v", err)
		}
	}
	if _, err := client.CreateContainer(t.Context(), &cri.CreateContainerRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("after that: %v", err)
	}
}
