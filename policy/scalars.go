package policy

import "time"

// Duration is a span of time as Go writes it, such as 500ms, 2s or 1m30s; whole milliseconds.
type Duration time.Duration

// Percent is a share from 0 to 100; fractions are fine.
type Percent float64

// Port is a TCP port.
type Port uint16

// ServiceRef names a Service. Namespace is empty where none was written.
type ServiceRef struct{ Namespace, Name string }

// Condition is a failure that can be retried: a word of the language, or an HTTP status from 400 to 599.
type Condition string

// Method is an HTTP method, or "*" where all are meant.
type Method string

// Regex is an RE2 expression that matches the whole of a value.
type Regex string

// HeaderName is the name of an HTTP header, in lower case.
type HeaderName string

// StatusRange is HTTP statuses from First to Last, both included.
type StatusRange struct{ First, Last uint32 }

// PathPattern is a path, or the beginning of one with * at its end.
type PathPattern string

// ServicePattern names a Service or all Services of a namespace. Namespace is empty for the own one; * means all.
type ServicePattern struct{ Namespace, Name string }

// HostPattern is a host name outside the mesh, or *. and a domain for all names below it.
type HostPattern string

// HostPort is a host and a port.
type HostPort struct {
	Host string
	Port uint16
}
