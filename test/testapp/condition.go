package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// condition is what an application says of itself: a status by name, 200 where it was told nothing else.
type condition struct{ statuses sync.Map }

func (c *condition) answer(w http.ResponseWriter, r *http.Request) {
	status, told := c.statuses.Load(r.PathValue("name"))
	if !told {
		status = http.StatusOK
	}
	w.WriteHeader(status.(int))
	fmt.Fprintln(w, status)
}

func (c *condition) turn(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.PathValue("status"))
	if err != nil || status < 200 || status > 599 {
		http.Error(w, "want /health/NAME/STATUS, from 200 to 599", http.StatusBadRequest)
		return
	}
	c.statuses.Store(r.PathValue("name"), status)
	fmt.Fprintln(w, status)
}
