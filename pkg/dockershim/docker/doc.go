// Package docker is the dockershim's view of Docker Engine: which containers are ours, how
// they are named and labelled, and what Docker says of them. It knows neither CRI nor gRPC.
//
//	Engine      the client of Docker's API, and what the daemon said of itself
//	Containers  our containers: lists and inspections, cached as long as the event stream
//	            (Watch) vouches for them, and every change to a container
//	Identity    which sandbox or container it is, read from its name and trusted labels
//	Images      facts about images that containers need
//	Privileges  what the daemon can give to a container
//
// Docker mixes the labels of an image into those of its containers. Only labels that we set
// ourselves are read back, and only from containers that have a name of ours.
package docker
