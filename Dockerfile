# The agent's own image: one static binary and nothing else. `make image` packs
# the same content without this file where the builder image cannot be had.
#
# The agent works on the host: run it with the host's network and PID namespace
# and with its directories, for example
#   docker run -d --name mini-kubelet --net=host --pid=host \
#     -v /var/run/docker.sock:/var/run/docker.sock \
#     -v /var/lib/kubelet:/var/lib/kubelet:rshared -v /var/lib/dockershim:/var/lib/dockershim \
#     -v /var/log/pods:/var/log/pods -v /etc/kubernetes:/etc/kubernetes:ro \
#     mini-kubelet --pod-manifest-path=/etc/kubernetes/manifests
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o /mini-kubelet ./cmd/mini-kubelet

FROM scratch
COPY --from=build /mini-kubelet /usr/local/bin/mini-kubelet
ENTRYPOINT ["/usr/local/bin/mini-kubelet"]
