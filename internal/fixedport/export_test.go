package fixedport

// ReserveOne reserves one address, if it is free.
var ReserveOne = reserve
