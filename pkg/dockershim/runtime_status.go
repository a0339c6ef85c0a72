package dockershim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const runtimeName = "docker"

// Version reports the versions of CRI and of Docker.
func (s *Server) Version(ctx context.Context, _ *cri.VersionRequest) (*cri.VersionResponse, error) {
	v, err := s.docker.ServerVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask Docker for its version: %w", err)
	}
	return &cri.VersionResponse{
		Version: "0.1.0", RuntimeName: runtimeName, RuntimeVersion: v.Version, RuntimeApiVersion: "v1",
	}, nil
}

// Status reports whether Docker and the network can run pods.
func (s *Server) Status(ctx context.Context, req *cri.StatusRequest) (*cri.StatusResponse, error) {
	runtime := &cri.RuntimeCondition{Type: cri.RuntimeReady, Status: true}
	if _, err := s.docker.Ping(ctx); err != nil {
		runtime.Status, runtime.Reason, runtime.Message = false, "DockerDaemonNotReady", fmt.Sprintf("docker: %v", err)
	}
	network := &cri.RuntimeCondition{Type: cri.NetworkReady, Status: true}
	if err := s.network.Status(ctx); err != nil {
		network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", fmt.Sprintf("network plug-in %s: %v", s.network.Name(), err)
	} else if warning := s.network.Warning(); warning != "" {
		network.Reason, network.Message = "NetworkPluginWarning", warning
	}
	resp := &cri.StatusResponse{
		Status:   &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{runtime, network}},
		Features: &cri.RuntimeFeatures{},
	}
	handlers := append([]string{""}, s.platform.Runtimes...)
	slices.Sort(handlers[1:])
	for _, name := range handlers {
		resp.RuntimeHandlers = append(resp.RuntimeHandlers, &cri.RuntimeHandler{
			Name: name, Features: &cri.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: s.platform.RecursiveReadOnly},
		})
	}
	if req.Verbose {
		resp.Info = verbose("config", map[string]any{
			"dockerEndpoint": s.cfg.DockerEndpoint, "dockerVersion": s.docker.About.ServerVersion, "dockerAPI": s.platform.APIVersion,
			"storageDriver": s.docker.About.Driver, "cgroupDriver": s.docker.About.CgroupDriver, "cgroupVersion": s.docker.About.CgroupVersion,
			"stateDir": s.cfg.StateDir, "sandboxImage": s.imageService.SandboxImage(), "networkPlugin": s.network.Name(),
			"lowestOOMScoreAdj": s.privileges.LowestOOMScore,
		})
	}
	return resp, nil
}

// verbose is the information for people that a client gets when it asks for more. A value that
// cannot be written as JSON is left out.
func verbose(key string, value map[string]any) map[string]string {
	text, _ := json.Marshal(value)
	return map[string]string{key: string(text)}
}
