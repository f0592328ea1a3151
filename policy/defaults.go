package policy

import (
	"reflect"
	"time"
)

// builtin lists, by type, the values of fields that nobody wrote. A type that is not here, or a field that is zero
// here, has none: the mesh adds no limit that nobody asked for. docs/policy.md is made from this list.
func builtin() []any {
	return []any{
		TrafficSettings{LoadBalancer: &LoadBalancer{}, Connection: &Connection{}},
		// Safe to repeat whatever the application does: it has not seen the request.
		Retries{
			On:      []Condition{OnConnectFailure, OnRefusedStream},
			Methods: []Method{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"},
			BackOff: &BackOff{},
		},
		BackOff{Base: span(25 * time.Millisecond), Max: span(250 * time.Millisecond)},
		RetryBudget{Percent: new(Percent(20)), MinConcurrency: new(uint32(3))},
		// Half, since in a Service of nine pods ten percent is none.
		OutlierDetection{
			Consecutive5xx: new(uint32(5)), ConsecutiveGatewayErrors: new(uint32(0)), ConsecutiveLocalOrigin: new(uint32(0)),
			Interval: span(10 * time.Second), BaseEjection: span(30 * time.Second), MaxEjection: span(300 * time.Second),
			MaxEjectionPercent: new(uint32(50)),
		},
		SuccessRate{MinimumHosts: new(uint32(5)), RequestVolume: new(uint32(100)), StdevFactor: new(1.9)},
		HealthCheck{Interval: span(10 * time.Second), Timeout: span(time.Second), UnhealthyThreshold: new(uint32(3)), HealthyThreshold: new(uint32(2))},
		LoadBalancer{Policy: LeastRequest, PanicThreshold: new(Percent(0))},
		RingSize{Min: new(uint64(1024)), Max: new(uint64(8388608))},
		HashCookie{TTL: span(0), Path: "/"},
		Connection{ConnectTimeout: span(10 * time.Second), HTTP: HTTPAuto},
		Target{Weight: new(uint32(1))},
		Mirror{Percent: new(Percent(100))},
		Delay{Percent: new(Percent(100))},
		Abort{Percent: new(Percent(100))},
		Redirect{Status: 302},
		RateLimit{Per: span(time.Second)},
		Access{Action: ActionAllow},
		AccessDefaults{MTLS: MTLSPermissive, Mode: ModeEnforce},
		AccessLog{Requests: LogAll, Percent: new(Percent(100))},
		Tracing{Sampling: new(Percent(1))},
		Tap{MaxPerSecond: new(uint32(100)), MaxDuration: span(10 * time.Minute)},
		Mesh{Access: AccessOpen, UnknownDestinations: UnknownPass, DetectionTimeout: span(100 * time.Millisecond)},
	}
}

func span(d time.Duration) *Duration { return new(Duration(d)) }

// WithDefaults gives a copy of v in which every field that was not written, at any depth of what was, has its
// built-in value. A block that is switched on by being there, such as retries, is not added.
func WithDefaults[T any](v T) T {
	table := map[reflect.Type]reflect.Value{}
	for _, b := range builtin() {
		table[reflect.TypeOf(b)] = reflect.ValueOf(b)
	}
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	out.Set(filled(reflect.ValueOf(v), table))
	return out.Interface().(T)
}

// filled copies v and fills what is zero in its structs from the table.
func filled(v reflect.Value, table map[reflect.Type]reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch {
	case v.IsZero() && v.Kind() != reflect.Struct:
	case v.Kind() == reflect.Pointer:
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(filled(v.Elem(), table))
	case v.Kind() == reflect.Slice:
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(filled(v.Index(i), table))
		}
	case v.Kind() == reflect.Struct:
		own, known := table[v.Type()]
		for i := range v.NumField() {
			field := v.Field(i)
			if field.IsZero() && known {
				field = own.Field(i)
			}
			out.Field(i).Set(filled(field, table))
		}
	default:
		out.Set(v)
	}
	return out
}
