/// Takes what a VM's service has to say. Any thread.
public typealias ServiceSay = @Sendable (ServiceLog.Level, String) -> Void
