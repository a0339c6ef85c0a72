package agent

import (
	"net"
	"path/filepath"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func TestTheDockershimIsServedWhereNobodyElseDoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	own := func(endpoint string) bool {
		return ownDockershim(&config.Config{
			DockershimSocket:     "unix://" + socket,
			KubeletConfiguration: kubeletconfig.KubeletConfiguration{ContainerRuntimeEndpoint: endpoint},
		})
	}
	if !own("") || !own("unix://"+socket) || own("unix:///elsewhere") {
		t.Errorf("nobody listens: own %v, named %v, another %v", own(""), own("unix://"+socket), own("unix:///elsewhere"))
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !own("") || own("unix://"+socket) {
		t.Errorf("somebody listens: own %v, named %v", own(""), own("unix://"+socket))
	}
}
